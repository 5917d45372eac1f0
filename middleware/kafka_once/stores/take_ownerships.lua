-- Take a new ownership of each partition, with a higher epoch than any before.
--
-- ARGV[5]   session, token, call (<I8c16I8)
-- ARGV[6…]  per partition: partition number, its identity, its topic, the topic's id (<i4 I2c0 I2c0 I2c0)
-- Answers nothing if the session is over, else one string per partition:
-- ownership, epoch, highest offset that a claim was asked for, 1 if the store knows an earlier topic of that name,
-- then the frontier if there is one (<I8I8i8B [i8i4])
--
-- Keys: s:<session>  o<ownership> -> the partition as it was asked;  t<identity> -> call, ownership, epoch (<I8I8I8)
--       e            hash: identity -> epoch, newest ownership (<I8I8)
--       f            hash: identity -> frontier (see exchange.lua)      h  hash: identity -> offset in digits
--       w            hash: topic:partition -> the topic's id, and the one before it (I2c0 I2c0)

local session, token, call = struct.unpack('<I8c16I8', ARGV[5])
local key = session_key(session)
if redis.call('HGET', key, 'r') ~= token then
  return false
end

local function take(ask, identity)
  local number = next_number(last_ownership, now_ms)
  last_ownership = number
  local stored = redis.call('HGET', PREFIX .. 'e', identity)
  local epoch = (stored and struct.unpack('<I8', stored) or 0) + 1
  redis.call('HSET', META, 'ownership', digits(number))
  redis.call('HSET', PREFIX .. 'e', identity, struct.pack('<I8I8', epoch, number))
  redis.call('HSET', key, 'o' .. digits(number), ask, 't' .. identity, struct.pack('<I8I8I8', call, number, epoch))
  return number, epoch
end

-- A topic that was deleted and made anew has another id. A repeat finds what the first call wrote: the same answer.
local function earlier_topic(partition, topic, topic_id)
  if topic_id == '' then
    return 0
  end
  local name = topic .. ':' .. digits(partition)
  local known = redis.call('HGET', PREFIX .. 'w', name)
  local now, before = '', ''
  if known then
    now, before = struct.unpack('<I2c0I2c0', known)
  end
  if topic_id ~= now then
    before = now
    redis.call('HSET', PREFIX .. 'w', name, struct.pack('<I2c0I2c0', #topic_id, topic_id, #before, before))
  end
  return before ~= '' and 1 or 0
end

local answers = {}
for at = 6, #ARGV do
  local partition, identity, topic, topic_id = struct.unpack('<i4I2c0I2c0I2c0', ARGV[at])
  local taken = redis.call('HGET', key, 't' .. identity)
  local taken_call, number, epoch
  if taken then
    taken_call, number, epoch = struct.unpack('<I8I8I8', taken)
  end
  -- The same call is a repeat, an older one a late copy: neither takes anything.
  if not taken or taken_call < call then
    number, epoch = take(ARGV[at], identity)
  end
  local claimed_up_to = tonumber(redis.call('HGET', PREFIX .. 'h', identity) or '-1')
  local frontier = redis.call('HGET', PREFIX .. 'f', identity)
  answers[#answers + 1] = struct.pack('<I8I8i8B', number, epoch, claimed_up_to, earlier_topic(partition, topic, topic_id))
    .. (frontier and string.sub(frontier, 1, 12) or '')
end
return answers
