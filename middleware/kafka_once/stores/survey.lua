-- What the namespace holds, for people. The number of done keys is a sum of counters: what expired by itself inside a
-- window in sight, or was deleted by hand, is still in it.
--
-- Answers: sessions, claims, done keys, doubts, then the hashes f (frontiers) and n (counters) as lists of values

local sessions = 0
for _, number in ipairs(redis.call('ZRANGE', PREFIX .. 'l', 0, -1)) do
  sessions = sessions + redis.call('EXISTS', session_key(number))
end
local done = 0
for _, window in ipairs(windows) do
  if in_sight(window) then
    done = done + window.count
  end
end
return {
  sessions,
  redis.call('HLEN', PREFIX .. 'c') - redis.call('HEXISTS', PREFIX .. 'c', HEAD) - redis.call('ZCARD', PREFIX .. 'y'),
  done,
  redis.call('ZCARD', PREFIX .. 'x'),
  redis.call('HVALS', PREFIX .. 'f'),
  redis.call('HVALS', PREFIX .. 'n'),
}
