-- End a session, and with it its ownerships. Ending what is over is no error.
--
-- ARGV[5] session, token (<I8c16)

local session, token = struct.unpack('<I8c16', ARGV[5])
if redis.call('HGET', session_key(session), 'r') == token then
  redis.call('DEL', session_key(session))
  redis.call('ZREM', PREFIX .. 'l', digits(session))
end
return 1
