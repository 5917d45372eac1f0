-- Try every command that the scripts use, on a key of our own, so that a missing permission or a server that is too old
-- shows at the start and not in the middle of a batch. Answers the mark of the store object that made the namespace.

local PROBE = PREFIX .. 'probe'

local function try(...)
  redis.call('DEL', PROBE)
  local answer
  for _, command in ipairs({ ... }) do
    answer = redis.call(unpack(command))
  end
  redis.call('DEL', PROBE)
  return answer
end

local written = struct.pack('<I8', now_ms)
local read = try({ 'SET', PROBE, written, 'PX', 60000 }, { 'GET', PROBE })
if read ~= written then
  refuse('the server does not give back what was just written to it: connect to the primary itself')
end
try({ 'SET', PROBE, '1' }, { 'PEXPIRE', PROBE, 60000 }, { 'PEXPIREAT', PROBE, digits(now_ms + 60000) },
  { 'EXISTS', PROBE }, { 'UNLINK', PROBE })
try({ 'HSET', PROBE, 'field', '1' }, { 'HGET', PROBE, 'field' }, { 'HMGET', PROBE, 'field' }, { 'HLEN', PROBE },
  { 'HEXISTS', PROBE, 'field' },
  { 'HKEYS', PROBE }, { 'HVALS', PROBE }, { 'HDEL', PROBE, 'field' })
try({ 'ZADD', PROBE, '1', 'member' }, { 'ZCARD', PROBE }, { 'ZRANGE', PROBE, 0, -1 },
  { 'ZRANGEBYSCORE', PROBE, '-inf', '0', 'LIMIT', 0, 1 }, { 'ZREMRANGEBYSCORE', PROBE, '-inf', '0' },
  { 'ZREMRANGEBYRANK', PROBE, 0, -100 }, { 'ZREM', PROBE, 'member' })
cjson.decode(cjson.encode({ now_ms }))
return redis.call('HGET', META, 'creator')
