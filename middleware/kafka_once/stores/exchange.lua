-- One round trip: renew, completes, releases, frontiers, ends, claims, in this order and all of it or nothing.
--
-- The shape is: read, decide, write. Redis does not take back what a failed script has written, so everything that may
-- fail (a foreign record, a key of another type) is met while reading, and the first write is made after the last
-- decision. Between them `records` holds what stands for each digest as decided so far, so that a completion and a
-- claim of one key in one exchange see each other. The decisions are those of core/claims.py, row by row; the lockstep
-- test compares them. Whoever changes one changes both.
--
-- A repeated exchange gives the same answers: the record of a claim holds the call that was granted it.
--
-- What stands for a digest:
--   absent    false
--   claimed   c:<digest> = kind, flags, attempts, session, ownership, call, fence; no expiry: a claim lives as long as
--             its ownership, and one that is over is still the trace of a handler that may have run
--   freed     c:<digest> = kind, flags, attempts; forgotten after remember_ms
--   done      a small number in a bucket of a window, see done_keys.lua. Never together with c:<digest>
-- The first byte is kind and version: what is unknown is an error, never absent.
--
-- The first write decides what happens when the server is out of memory: Redis refuses a script only at a first write
-- that may grow. With claims the first write may grow (the whole exchange is refused and can be repeated); without, it
-- is a DEL or a PEXPIRE, so completing and giving back go on and make room.
--
-- ARGV[5]  session, token, call (<I8c16I8)          ARGV[6] completes   digest, session, dead-lettered
-- ARGV[7]  releases: digest, session, call, flags (1 failed, 2 doubt), ownership, offset
-- ARGV[8]  frontiers: ownership, offset, leader epoch (-1: none), 1 if it may go back behind an earlier ownership's
-- ARGV[9]  ends: ownership                          ARGV[10] claims: digest, ownership, offset, flags (1 follows, 2 alone,
--          4 held)
-- Answers one string: session lives, a byte for each complete, a byte for each release, and for each claim
-- grant, flags (1 doubt, 2 suspect), attempts, fence (<BBI4I8)
--
-- Keys beside those above: f hash, identity -> frontier: offset, leader epoch, ownership, partition (<i8i4I8i4), topic
--                          h hash, identity -> highest offset that a claim was asked for
--                          x sorted set of what was in doubt, by time; see list_doubt

local COMPLETE, RELEASE, FRONTIER, CLAIM = '<c1c15I8B', '<c1c15I8I8BI8i8', '<I8i8i4B', '<c1c15I8i8B'
local CLAIMED, CLAIMED_RECORD, CLAIMED_HEAD = 17, '<BBI4I8I8I8I8', '<BBI4I8I8I8'
local FREED, FREED_RECORD = 18, '<BBI4'
local MAX_DOUBTS = 100000
local APPLIED, FORGOTTEN, DOUBLED, FENCED = '\0', '\1', '\2', '\3'
local RELEASED, NOT_HELD = '\0', '\1'
local ACQUIRED, RECLAIMED = 0, 1

local ANSWER = '<BBI4I8'

-- What says nothing but the grant.
local PLAIN = string.rep('\0', struct.size(ANSWER) - 1)
local DUPLICATE, BUSY, STALE = '\2' .. PLAIN, '\3' .. PLAIN, '\4' .. PLAIN
local SUPERSEDED, GONE, SKIPPED = '\5' .. PLAIN, '\6' .. PLAIN, '\7' .. PLAIN

local session, token, call = struct.unpack('<I8c16I8', ARGV[5])
-- A fence has to grow for a key, so one serves all the claims of an exchange; their records are then all the same.
local fence = next_number(last_fence, now_us)
local lives = redis.call('HGET', session_key(session), 'r') == token
local in_grace = now_ms < grace_until

-- ------------------------------------------------------------------------------------------------- records, ownerships

local CLAIM_PREFIX = PREFIX .. 'c:'
local records = {} -- key of the claim -> what stands for it, as decided so far

-- What to write. In this order: a key that is given back and claimed again in one exchange ends as claimed.
local gone, dones, freed, claimed, doubts = {}, {}, {}, {}, {}

-- A digest is handed over as its first byte and the rest, which is how done keys are named: to make a string costs more
-- here than anything else that is done with it. For the same reason the key comes with the record.
local function record_of(first, rest)
  local key = CLAIM_PREFIX .. first .. rest
  local record = records[key]
  if record == nil then
    record = redis_call('GET', key)
    if record then
      local kind = string_byte(record)
      if kind ~= CLAIMED and kind ~= FREED then
        refuse('a claim of the namespace at ' .. META .. ' is of the unknown kind ' .. tostring(kind) .. ': a newer '
          .. 'kafka-once or another program wrote it; use that version, or another database')
      end
    else
      record = done_value(first, rest)
    end
    records[key] = record
  end
  return record, key
end

-- What a session knows of an ownership, false if either is over.
local known_sessions = {}
local function ownership_of(holder, number)
  local known_ownerships = known_sessions[holder]
  if not known_ownerships then
    known_ownerships = {}
    known_sessions[holder] = known_ownerships
  end
  local known = known_ownerships[number]
  if known == nil then
    local asked = redis.call('HGET', session_key(holder), 'o' .. digits(number))
    known = false
    if asked then
      local partition, identity, topic = struct.unpack('<i4I2c0I2c0', asked)
      local _, newest = struct.unpack('<I8I8', redis.call('HGET', PREFIX .. 'e', identity))
      known = { identity = identity, partition = partition, topic = topic, newest = newest == number }
    end
    known_ownerships[number] = known
  end
  return known
end

local function list_doubt(first, rest, own, offset, attempts, earlier, newer, reason, its_fence)
  local partition, topic = -1, ''
  if own then
    partition, topic = own.partition, own.topic
  end
  doubts[#doubts + 1] = struct.pack('<I8c1c15i4i8I4I8I8B', its_fence, first, rest, partition, offset, attempts, earlier,
    newer, reason) .. topic
end

-- ------------------------------------------------------------------------------------------------------- the three verbs

local function complete(first, rest, holder, dead_lettered)
  local record, key = record_of(first, rest)
  local done = dead_lettered * SHORT_SESSION + holder % SHORT_SESSION
  if type(record) == 'number' then
    return record % SHORT_SESSION == done % SHORT_SESSION and APPLIED or DOUBLED
  end
  if record then
    if string_byte(record) == CLAIMED then
      if struct.unpack('<I8', record, 7) ~= holder then
        return FENCED
      end
      in_flight = in_flight - 1
    end
    gone[#gone + 1] = key
  end
  records[key] = done
  local last = #dones
  dones[last + 1], dones[last + 2], dones[last + 3] = first, rest, done
  return record and APPLIED or FORGOTTEN
end

local function release(first, rest, holder, holder_call, flags, number, offset)
  local record, key = record_of(first, rest)
  if type(record) ~= 'string' or string_byte(record) ~= CLAIMED then
    return NOT_HELD
  end
  local _, bits, attempts, its_session, _, its_call, its_fence = struct.unpack(CLAIMED_RECORD, record)
  if its_session ~= holder or its_call ~= holder_call then
    return NOT_HELD
  end
  local failed, raised_doubt = flags % 2 == 1, flags >= 2
  local doubt, suspect = raised_doubt or bits % 2 == 1, bits % 4 >= 2 and not failed
  attempts = attempts + (failed and 1 or 0)
  if attempts > 0 or doubt or suspect then
    records[key] = struct.pack(FREED_RECORD, FREED, (doubt and 1 or 0) + (suspect and 2 or 0), attempts)
    freed[#freed + 1] = key
  else
    records[key] = false
    gone[#gone + 1] = key
  end
  in_flight = in_flight - 1
  if raised_doubt then
    list_doubt(first, rest, ownership_of(holder, number), offset, attempts, number, number, 1, its_fence)
  end
  return RELEASED
end

local function grant(key, record)
  records[key] = record
  claimed[#claimed + 1] = key
  claimed[#claimed + 1] = record
end

-- A claim of a key that somebody has, or had: it may inherit attempts, doubt and suspicion.
local function claim_with_past(record, key, first, rest, number, own, offset, alone)
  local kind, bits, attempts, holder, its_ownership, its_call, its_fence = struct.unpack(
    string_byte(record) == FREED and FREED_RECORD or CLAIMED_RECORD, record)
  local answer, kept = ACQUIRED, bits % 4
  if kind == FREED then
    in_flight = in_flight + 1
  elseif holder == session then
    if its_call == call then
      return struct.pack(ANSWER, ACQUIRED, kept, attempts, its_fence)
    elseif its_call > call then
      return STALE
    end
  elseif ownership_of(holder, its_ownership) then
    return BUSY
  else
    answer, kept = RECLAIMED, 3
    if bits >= 4 and redis.call('EXISTS', session_key(holder)) == 0 then -- one that lives was not killed by the key
      attempts = attempts + 1
    end
    list_doubt(first, rest, own, offset, attempts, its_ownership, number, 0, fence)
  end
  grant(key, struct.pack(CLAIMED_RECORD, CLAIMED, kept + (alone and 4 or 0), attempts, session, number, call, fence))
  return struct.pack(ANSWER, answer, kept, attempts, fence)
end

local CLEAN = struct.pack(ANSWER, ACQUIRED, 0, 0, fence)

-- Whether this very call was granted it, or a later one.
local function was_granted(record)
  if not record or string_byte(record) ~= CLAIMED then
    return false
  end
  local _, _, _, holder, _, its_call = struct.unpack(CLAIMED_RECORD, record)
  return holder == session and its_call >= call
end

local function claim(first, rest, number, own, offset, alone, held)
  local record, key = record_of(first, rest)
  if type(record) == 'number' then
    return DUPLICATE
  elseif in_grace and not held and not was_granted(record) then
    return BUSY
  elseif record then
    return claim_with_past(record, key, first, rest, number, own, offset, alone)
  end
  in_flight = in_flight + 1
  grant(key, alone and own.claimed_alone or own.claimed)
  return CLEAN
end

-- ------------------------------------------------------------------------------------------------------ read and decide

local answers = { lives and '\1' or '\0' }

local function answer_each(format, packed, verb)
  local unpack_struct, size, last = struct.unpack, struct.size(format), #answers
  for at = 1, #packed, size do
    last = last + 1
    answers[last] = verb(unpack_struct(format, packed, at))
  end
end

answer_each(COMPLETE, ARGV[6], complete)
answer_each(RELEASE, ARGV[7], release)

local frontiers = {} -- identity -> offset decided so far; beside it what to write: identity, record, …
local new_frontiers = {}
answer_each(FRONTIER, ARGV[8], function(number, offset, leader_epoch, back)
  local own = lives and ownership_of(session, number)
  if own and own.newest then
    local last = frontiers[own.identity]
    if not last then
      local stored = redis.call('HGET', PREFIX .. 'f', own.identity)
      last = -1
      if stored then
        local at, _, by = struct.unpack('<i8i4I8', stored)
        last = (back == 1 and by ~= number) and -1 or at
      end
    end
    if offset > last then
      frontiers[own.identity] = offset
      new_frontiers[#new_frontiers + 1] = own.identity
      new_frontiers[#new_frontiers + 1] = struct.pack('<i8i4I8i4', offset, leader_epoch, number, own.partition) .. own.topic
    end
  end
  return nil
end)

local ended = {}
answer_each('<I8', ARGV[9], function(number)
  if lives and ownership_of(session, number) then
    ended[#ended + 1] = 'o' .. digits(number)
    known_sessions[session][number] = false
  end
  return nil
end)

local highest = {} -- identity -> highest offset asked, where it grew

-- What the claims of one ownership have in common.
local function prepare(number, own)
  own.highest = tonumber(redis.call('HGET', PREFIX .. 'h', own.identity) or '-1')
  own.claimed = struct.pack(CLAIMED_RECORD, CLAIMED, 0, 0, session, number, call, fence)
  own.claimed_alone = struct.pack(CLAIMED_RECORD, CLAIMED, 4, 0, session, number, call, fence)
end

local tried = DUPLICATE
local own_number, own
answer_each(CLAIM, ARGV[10], function(first, rest, number, offset, flags)
  if number ~= own_number then
    own_number, own = number, lives and ownership_of(session, number)
  end
  if not lives then
    return GONE
  elseif flags % 2 == 1 and string_byte(tried) > 2 then
    tried = SKIPPED
  elseif not own then
    tried = GONE
  elseif not own.newest and flags < 4 then
    tried = SUPERSEDED
  else
    if not own.claimed then
      prepare(number, own)
    end
    if offset > own.highest then
      own.highest = offset
      highest[own.identity] = offset
    end
    tried = claim(first, rest, number, own, offset, flags % 4 >= 2, flags >= 4)
  end
  return tried
end)

-- ---------------------------------------------------------------------------------------------------------------- write

local function in_pieces(command, arguments)
  for at = 1, #arguments, 1000 do -- Lua's stack does not hold more than some thousand
    redis.call(command, unpack(arguments, at, math.min(at + 999, #arguments)))
  end
end

local function write_records()
  in_pieces('DEL', gone)
  for at = 1, #dones, 3 do
    write_done(dones[at], dones[at + 1], dones[at + 2])
  end
  for _, key in ipairs(freed) do
    redis.call('SET', key, records[key], 'PX', remember_ms)
  end
  in_pieces('MSET', claimed)
end

local function write_doubts()
  for _, doubt in ipairs(doubts) do
    redis.call('ZADD', PREFIX .. 'x', digits(now_ms), doubt)
  end
  if #doubts > 0 then
    redis.call('ZREMRANGEBYSCORE', PREFIX .. 'x', '-inf', digits(now_ms - remember_ms))
    redis.call('ZREMRANGEBYRANK', PREFIX .. 'x', 0, -MAX_DOUBTS - 1)
  end
end

if #claimed > 0 then -- the write that may be refused for want of memory
  redis.call('HSET', META, 'fence', digits(fence), 'claims', digits(in_flight))
end
if lives then
  redis.call('PEXPIRE', session_key(session), lease_ms)
end
write_records()
if #claimed == 0 and #gone + #freed > 0 then
  redis.call('HSET', META, 'claims', digits(in_flight))
end
if #dones > 0 then
  redis.call('HSET', META, 'windows', packed_windows())
end
for at = 1, #new_frontiers, 2 do
  redis.call('HSET', PREFIX .. 'f', new_frontiers[at], new_frontiers[at + 1])
end
for identity, offset in pairs(highest) do
  redis.call('HSET', PREFIX .. 'h', identity, digits(offset))
end
if #ended > 0 then
  redis.call('HDEL', session_key(session), unpack(ended))
end
write_doubts()
return table.concat(answers)
