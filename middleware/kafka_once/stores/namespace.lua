-- What every script begins with: this text stands before each of them. The whole is a constant, so its hash is too.
--
-- KEYS[1]   "kafka-once:{tag}:meta"; every other key has the same prefix, so all of them share one slot
-- ARGV[1]   cluster         ARGV[2] group      whom the namespace is for
-- ARGV[3]   creator         the mark that a namespace keeps of the store object that made it
-- ARGV[4]   lease ms, remember ms, number of shards, run id of this server as the caller's connection knows it, and of
--           the one that the caller spoke to before (<I8I8I2I2c0I2c0); the ids are '' where unknown
-- ARGV[5…]  what the script itself asks for
--
-- Time is the server's. Nothing here trusts a client's clock.

local FORMAT = '2'
local META, PREFIX = KEYS[1], string.sub(KEYS[1], 1, -5)
local lease_ms, remember_ms, shards, server, server_before = struct.unpack('<I8I8I2I2c0I2c0', ARGV[4])

local time = redis.call('TIME')
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local now_ms = (now_us - now_us % 1000) / 1000

-- An answer that repeating will not change. The client cuts the sentence out of the error by its brackets.
local function refuse(sentence)
  error('KAFKAONCE[' .. sentence .. ']', 0)
end

-- Lua would write large numbers with an exponent.
local function digits(number)
  return string.format('%.0f', number)
end

local function next_number(last, at_least)
  return last < at_least and at_least or last + 1
end

local function session_key(number)
  return PREFIX .. 's:' .. digits(number)
end

-- Another server than the last time (it restarted, or a replica took over) may have forgotten what was written last: for a
-- lease nobody is granted a key anew, so that whoever holds one has the time to say so. Answers until when.
-- The write must not fail the call: while memory is short it is tried again with the next one.
local function grace_of(last_server, last_until)
  local until_ms = tonumber(last_until or '0')
  if server == '' or server == last_server then
    return until_ms
  end
  last_server = last_server or server_before -- a namespace that was lost whole
  if last_server ~= '' and last_server ~= server then
    until_ms = now_ms + lease_ms
  end
  redis.pcall('HSET', META, 'server', server, 'grace', digits(until_ms))
  return until_ms
end

-- Another format or another owner is never taken for an empty namespace. Answers the numbers that were given out last,
-- the windows of done keys (see done_keys.lua), and the end of the grace period.
local function open_namespace()
  -- On a cluster, while the slot moves, a script would see what is left of the namespace here. The missing key makes the
  -- server refuse the script before it has read or written anything.
  redis.call('EXISTS', PREFIX .. 'none')
  local stored = redis.call('HMGET', META, 'format', 'cluster', 'group', 'session', 'ownership', 'fence', 'windows',
    'server', 'grace', 'shards')
  local format, cluster, group = stored[1], stored[2], stored[3]
  if not format and redis.call('EXISTS', META) == 0 then
    redis.call('HSET', META, 'format', FORMAT, 'cluster', ARGV[1], 'group', ARGV[2], 'creator', ARGV[3],
      'created_ms', digits(now_ms), 'shards', digits(shards))
  elseif format ~= FORMAT then
    refuse('the namespace at ' .. META .. ' has the format ' .. tostring(format) .. ', this version of kafka-once reads '
      .. FORMAT .. ': use the version of kafka-once that wrote it, or another database')
  elseif cluster ~= ARGV[1] or group ~= ARGV[2] then
    refuse('the namespace at ' .. META .. ' belongs to another cluster or group: use another database')
  elseif (stored[10] or '1') ~= digits(shards) then
    if not stored[4] then -- looked at before anybody worked with it
      redis.call('HSET', META, 'shards', digits(shards))
      return 0, 0, 0, '', 0
    end
    refuse('the namespace at ' .. META .. ' has another number of shards, and keys would be looked for where they are not: '
      .. 'set shards to ' .. (stored[10] or '1') .. ', or start with another group')
  end
  return tonumber(stored[4] or '0'), tonumber(stored[5] or '0'), tonumber(stored[6] or '0'), stored[7] or '',
    grace_of(stored[8] or nil, stored[9] or nil)
end

local last_session, last_ownership, last_fence, stored_windows, grace_until = open_namespace()
