-- Keep a session's counters. Bounded: beyond MAX_SESSIONS the oldest session that is over is added to the field "earlier".
--
-- ARGV[5] session (<I8)    ARGV[6] counters as a JSON object
-- Key: n  hash: session -> {"time_ms": …, "counters": {…}}

local MAX_SESSIONS = 1000
local COUNTERS = PREFIX .. 'n'

local function fold(number)
  local sum = cjson.decode(redis.call('HGET', COUNTERS, 'earlier') or '{"counters":{}}')
  for name, count in pairs(cjson.decode(redis.call('HGET', COUNTERS, number)).counters) do
    sum.counters[name] = (sum.counters[name] or 0) + count
  end
  sum.time_ms = now_ms
  redis.call('HSET', COUNTERS, 'earlier', cjson.encode(sum))
  redis.call('HDEL', COUNTERS, number)
end

local function oldest_that_is_over()
  local oldest
  for _, number in ipairs(redis.call('HKEYS', COUNTERS)) do
    local older = number ~= 'earlier' and (not oldest or tonumber(number) < tonumber(oldest))
    if older and redis.call('EXISTS', session_key(number)) == 0 then
      oldest = number
    end
  end
  return oldest
end

redis.call('HSET', COUNTERS, digits(struct.unpack('<I8', ARGV[5])),
  '{"time_ms":' .. digits(now_ms) .. ',"counters":' .. ARGV[6] .. '}')
if redis.call('HLEN', COUNTERS) > MAX_SESSIONS then
  local oldest = oldest_that_is_over()
  if oldest then
    fold(oldest)
  end
end
return 1
