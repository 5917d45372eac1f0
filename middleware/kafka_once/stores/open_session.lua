-- Open a session, or give the same answer to the same token again.
--
-- ARGV[5] token (16 bytes)    ARGV[6] static instance id, '' if there is none
-- ARGV[7] the caller's session before this one, '' if it had none
-- Answers the session's number in digits.
--
-- Keys: s:<session>  hash with the lease as its expiry: r token, i instance, o<ownership>, t<partition>
--       t:<token>    the session that was opened with it, so that a lost answer can be asked for again
--       i            hash: static instance -> its session
--       l            sorted set of the sessions that may live, for the survey

local token, instance, previous = ARGV[5], ARGV[6], ARGV[7]
local TOKEN_MS = math.max(10 * lease_ms, 60000)

local opened = redis.call('GET', PREFIX .. 't:' .. token)
if opened then
  -- Its caller counts its trust from this repeated call, so the lease does too. Renewing never creates.
  redis.call('PEXPIRE', session_key(opened), lease_ms)
  return opened
end

local number = next_number(last_session, now_ms)
redis.call('HSET', META, 'session', digits(number))
if previous ~= '' then -- it is over; in shards it may have been so in another one only
  redis.call('DEL', session_key(previous))
end
local takes_instance = false
if instance ~= '' then
  -- Whoever had this static id is gone, or this one would not have been given it: its claims can be taken over. But a
  -- process that wakes up late (it had a session before) must not end the session of the one that replaced it.
  local earlier = redis.call('HGET', PREFIX .. 'i', instance)
  takes_instance = previous == '' or not earlier or earlier == previous
  if takes_instance and earlier then
    redis.call('DEL', session_key(earlier))
  end
end
if takes_instance then
  redis.call('HSET', PREFIX .. 'i', instance, digits(number))
end

local key = session_key(number)
redis.call('HSET', key, 'r', token)
if takes_instance then
  redis.call('HSET', key, 'i', instance)
end
redis.call('PEXPIRE', key, lease_ms)
redis.call('SET', PREFIX .. 't:' .. token, digits(number), 'PX', TOKEN_MS)

for _, known in ipairs(redis.call('ZRANGE', PREFIX .. 'l', 0, -1)) do
  if redis.call('EXISTS', session_key(known)) == 0 then
    redis.call('ZREM', PREFIX .. 'l', known)
  end
end
redis.call('ZADD', PREFIX .. 'l', digits(number), digits(number))
return digits(number)
