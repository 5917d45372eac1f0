-- One round trip: renew, completes, releases, frontiers, ends, claims, in this order and all of it or nothing.
--
-- The shape is: read, decide, write. Redis does not take back what a failed script has written, so everything that may
-- fail (a foreign record, a key of another type) is met while reading, and the first write is made after the last
-- decision. Between them `records` holds what stands for each digest as decided so far, so that a completion and a
-- claim of one key in one exchange see each other. The decisions are those of core/claims.py, row by row; the lockstep
-- test compares them. Whoever changes one changes both.
--
-- A message costs what is done for it alone, so hardly anything is: digests come side by side, a piece of them becomes
-- the arguments of one command, and a command reads or writes for all of the piece.
--
-- A repeated exchange gives the same answers: the record of a claim holds the call that was granted it.
--
-- What stands for a digest:
--   absent    nil
--   claimed   c, hash: digest -> kind, flags, attempts, session, ownership, call, fence; no expiry: a claim lives as long
--             as its ownership, and one that is over is still the trace of a handler that may have run
--   freed     c, hash: digest -> kind, flags, attempts, forgotten ms; also in y, sorted set, by that time, after which it
--             is absent, and swept out when the next ones come
--   done      a small number in a bucket of a window, see done_keys.lua. Never together with a record in c
-- The first byte is kind and version: what is unknown is an error, never absent.
--
-- The first write decides what happens when the server is out of memory: Redis refuses a script only at a first write
-- that may grow. With claims the first write may grow (the whole exchange is refused and can be repeated); without, it
-- is a PEXPIRE or an HDEL, so completing and giving back go on and make room.
--
-- ARGV[5]  session, token, call (<I8c16I8)
-- ARGV[6]  digests of completes                     ARGV[7] for each: session, dead-lettered (<I8B)
-- ARGV[8]  releases: digest, session, call, flags (1 failed, 2 doubt), ownership, offset
-- ARGV[9]  frontiers: ownership, offset, leader epoch (-1: none), 1 if it may go back behind an earlier ownership's
-- ARGV[10] ends: ownership
-- ARGV[11] digests of claims                        ARGV[12] for each: ownership, offset, flags (1 follows, 2 alone,
--          4 held) (<I8i8B)
-- Answers one string: session lives, a byte for each complete, a byte for each release, and for each claim
-- grant, flags (1 doubt, 2 suspect), attempts, fence (<BBI4I8)
--
-- Keys beside those above: f hash, identity -> frontier: offset, leader epoch, ownership, partition (<i8i4I8i4), topic
--                          h hash, identity -> highest offset that a claim was asked for
--                          x sorted set of what was in doubt, by time; see list_doubt

local DIGEST_SIZE = 16
local RELEASE, FRONTIER = '<c16I8I8BI8i8', '<I8i8i4B'
local CLAIMED, CLAIMED_RECORD = 17, '<BBI4I8I8I8I8'
local FREED, FREED_RECORD = 18, '<BBI4I8'
local MAX_DOUBTS = 100000
local SWEPT = 100 -- freed keys whose time is over, at a time
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

local CLAIMS, FREED_UNTIL = PREFIX .. 'c', PREFIX .. 'y'
local records = {} -- digest -> what stands for it as decided so far; what is absent: false
local known_done = {} -- digest -> value: what was looked up for a whole piece

-- What to write. A key that is given back and claimed again in one exchange ends as claimed.
local gone, freed, claimed, doubts = {}, {}, {}, {}
local unfreed = {} -- what was freed and is not any more
local packed_done = setmetatable({}, {
  __index = function(known, done)
    known[done] = struct.pack('<I2', done)
    return known[done]
  end,
})

-- What a record says: false for a freed key whose time is over.
local function standing(digest, record)
  local kind = string_byte(record)
  if kind == FREED then
    local _, _, _, until_ms = struct.unpack(FREED_RECORD, record)
    if now_ms >= until_ms then
      gone[#gone + 1], unfreed[#unfreed + 1] = digest, digest
      return false
    end
  elseif kind ~= CLAIMED then
    refuse('a claim of the namespace at ' .. META .. ' is of the unknown kind ' .. tostring(kind) .. ': a newer '
      .. 'kafka-once or another program wrote it; use that version, or another database')
  end
  return record
end

local has_head = false

-- Take what stands for a piece of digests to `records` and, for those that have no record, `known_done`. Answers the
-- digests, and each as its two parts.
local function read_piece(packed, at, size)
  local digests = { struct.unpack('<' .. string.rep('c16', size), packed, at) }
  local split = { struct.unpack('<' .. string.rep('c2c14', size), packed, at) }
  digests[size + 1] = HEAD
  local replies, absent = redis_call('HMGET', CLAIMS, unpack(digests, 1, size + 1)), {}
  has_head = replies[size + 1]
  for place = 1, size do
    local digest = digests[place]
    local record = records[digest]
    if record == nil then
      record = replies[place]
      if record then
        record = standing(digest, record)
      end
      records[digest] = record
    end
    if not record then
      absent[#absent + 1] = place
    end
  end
  for place, value in pairs(done_values(split, absent)) do
    known_done[digests[place]] = value
  end
  return digests, split
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

local function list_doubt(digest, own, offset, attempts, earlier, newer, reason, its_fence)
  local partition, topic = -1, ''
  if own then
    partition, topic = own.partition, own.topic
  end
  doubts[#doubts + 1] = struct.pack('<I8c16i4i8I4I8I8B', its_fence, digest, partition, offset, attempts, earlier,
    newer, reason) .. topic
end

-- ------------------------------------------------------------------------------------------------------- the three verbs

-- Most records of a piece are one and the same string: those of what was claimed together.
local holders = setmetatable({}, {
  __index = function(known, record)
    known[record] = struct.unpack('<I8', record, 7)
    return known[record]
  end,
})

local function complete(digest, holder, dead_lettered)
  local record = records[digest] or known_done[digest]
  local done = dead_lettered * SHORT_SESSION + holder % SHORT_SESSION
  if type(record) == 'number' then
    return record % SHORT_SESSION == done % SHORT_SESSION and APPLIED or DOUBLED, nil
  end
  if record then
    if string_byte(record) == FREED then
      unfreed[#unfreed + 1] = digest
    elseif holders[record] ~= holder then
      return FENCED, nil
    end
    gone[#gone + 1] = digest
  end
  records[digest] = done
  return record and APPLIED or FORGOTTEN, done
end

local function release(digest, holder, holder_call, flags, number, offset)
  local record = records[digest]
  if record == nil then
    record = redis_call('HGET', CLAIMS, digest)
    record = record and standing(digest, record)
    records[digest] = record
  end
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
    records[digest] = struct.pack(FREED_RECORD, FREED, (doubt and 1 or 0) + (suspect and 2 or 0), attempts,
      now_ms + remember_ms)
    freed[#freed + 1] = digest
  else
    records[digest] = false
    gone[#gone + 1] = digest
  end
  if raised_doubt then
    list_doubt(digest, ownership_of(holder, number), offset, attempts, number, number, 1, its_fence)
  end
  return RELEASED
end

local function grant(digest, record)
  records[digest] = record
  local last = #claimed
  claimed[last + 1], claimed[last + 2] = digest, record
end

-- A claim of a key that somebody has, or had: it may inherit attempts, doubt and suspicion.
local function claim_with_past(record, digest, number, own, offset, alone)
  local kind, bits, attempts, holder, its_ownership, its_call, its_fence = struct.unpack(
    string_byte(record) == FREED and FREED_RECORD or CLAIMED_RECORD, record)
  local answer, kept = ACQUIRED, bits % 4
  if kind == FREED then
    unfreed[#unfreed + 1] = digest
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
    list_doubt(digest, own, offset, attempts, its_ownership, number, 0, fence)
  end
  grant(digest, struct.pack(CLAIMED_RECORD, CLAIMED, kept + (alone and 4 or 0), attempts, session, number, call, fence))
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

local function claim(digest, number, own, offset, alone, held)
  local record = records[digest] or known_done[digest]
  if type(record) == 'number' then
    return DUPLICATE
  elseif in_grace and not held and not was_granted(record) then
    return BUSY
  elseif record then
    return claim_with_past(record, digest, number, own, offset, alone)
  end
  grant(digest, alone and own.claimed_alone or own.claimed)
  return CLEAN
end

-- ------------------------------------------------------------------------------------------------------ read and decide

local answers = { lives and '\1' or '\0' }

local function answer_each(format, packed, verb)
  local size = struct.size(format)
  for at = 1, #packed, size do
    answers[#answers + 1] = verb(struct.unpack(format, packed, at))
  end
end

-- Each piece of digests, with what was sent beside them in one row after another, and how many they are.
local function each_piece(digests, rows, format, verb)
  local row_size = struct.size('<' .. format)
  for first = 0, #digests / DIGEST_SIZE - 1, PIECE do
    local size = math.min(PIECE, #digests / DIGEST_SIZE - first)
    local values = { struct.unpack('<' .. string.rep(format, size), rows, first * row_size + 1) }
    verb(first * DIGEST_SIZE + 1, size, values)
  end
end

each_piece(ARGV[6], ARGV[7], 'I8B', function(at, size, rows)
  local digests, split = read_piece(ARGV[6], at, size)
  local piece, values, count, last = {}, {}, 0, #answers
  for place = 1, size do
    local answer, done = complete(digests[place], rows[2 * place - 1], rows[2 * place])
    answers[last + place] = answer
    if done then
      count = count + 1
      piece[2 * count - 1], piece[2 * count] = split[2 * place - 1], split[2 * place]
      values[count] = packed_done[done]
    end
  end
  if count > 0 then
    add_dones(piece, values)
  end
end)
answer_each(RELEASE, ARGV[8], release)

local frontiers = {} -- identity -> offset decided so far; beside it what to write: identity, record, …
local new_frontiers = {}
answer_each(FRONTIER, ARGV[9], function(number, offset, leader_epoch, back)
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
answer_each('<I8', ARGV[10], function(number)
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

local function answer_claim(digest, number, offset, flags)
  if number ~= own_number then
    own_number, own = number, lives and ownership_of(session, number)
  end
  if not lives then
    return GONE
  elseif flags % 2 == 1 and string_byte(tried) > 2 then
    return SKIPPED
  elseif not own then
    return GONE
  elseif not own.newest and flags < 4 then
    return SUPERSEDED
  end
  if not own.claimed then
    prepare(number, own)
  end
  if offset > own.highest then
    own.highest = offset
    highest[own.identity] = offset
  end
  return claim(digest, number, own, offset, flags % 4 >= 2, flags >= 4)
end

each_piece(ARGV[11], ARGV[12], 'I8i8B', function(at, size, rows)
  local digests = read_piece(ARGV[11], at, size)
  local last = #answers
  for place = 1, size do
    tried = answer_claim(digests[place], rows[3 * place - 2], rows[3 * place - 1], rows[3 * place])
    answers[last + place] = tried
  end
end)

-- ---------------------------------------------------------------------------------------------------------------- write

local function write_freed()
  for _, digest in ipairs(freed) do
    local record = records[digest]
    if string_byte(record) == FREED then -- and not claimed again since
      redis.call('HSET', CLAIMS, digest, record)
      redis.call('ZADD', FREED_UNTIL, digits(now_ms + remember_ms), digest)
    end
  end
  local over = #freed > 0 and redis.call('ZRANGEBYSCORE', FREED_UNTIL, '-inf', digits(now_ms), 'LIMIT', 0, SWEPT) or {}
  in_pieces('HDEL', CLAIMS, over)
  in_pieces('ZREM', FREED_UNTIL, over)
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
  redis.call('HSET', META, 'fence', digits(fence))
end
if lives then
  redis.call('PEXPIRE', session_key(session), lease_ms)
end
in_pieces('HDEL', CLAIMS, gone)
in_pieces('ZREM', FREED_UNTIL, unfreed)
write_dones()
write_freed()
if #claimed > 0 and not has_head then
  claimed[#claimed + 1], claimed[#claimed + 2] = HEAD, LONG
end
in_pieces('HSET', CLAIMS, claimed)
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
