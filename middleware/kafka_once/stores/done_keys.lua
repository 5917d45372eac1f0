-- Done keys: where they stand, and how they are forgotten. This text stands before each script that touches them, and is
-- the only place that knows of windows, parts and buckets.
--
-- A digest's first two bytes choose its bucket, in a wide window the third as well. A bucket is one string of records,
-- the other 14 bytes of a digest and two of value each, in the order in which they were done. It is the value of a
-- hash's field, the field is the two bytes: so a done key takes hardly more than its record, and all buckets that a call
-- needs are read and written by one command for each hash. A hash is a part of a window: small enough to be moved, or
-- deleted, without anybody waiting for it.
--
-- A window is a stretch of time that ends after remember_ms, or when its buckets are full. It is looked at for remember_ms
-- after its end, so two are in sight as a rule and some more while a namespace grows; what was completed at its end is
-- remembered for remember_ms, what was completed earlier for longer. After that its parts are deleted; if nobody is there
-- to do that, they expire.
--
-- Windows stand in meta, newest first: number, width, count of keys, opened ms, ended ms (0: open), remember ms. Their
-- numbers never go back, whatever the clock does.
--
-- The figures below weigh memory against time: a bucket costs about 70 bytes beside its records, and to read or to write
-- one moves all of it.

local WINDOW, WINDOW_SIZE = '<I4I4I4I8I8I8', 36
local RECORD_SIZE = 16
local SHORT_SESSION = 8192 -- a value is this times its kind (0 completed, 1 dead-lettered) plus low bits of the session
local BUCKETS, PARTS = 65536, 3 -- of a window as wide as one
-- Keys a bucket when the width is foreseen; keys a bucket that end a window; how much wider the window after a full one
-- is; and the widest there is.
local AVERAGE, FULL, GROWTH, WIDEST = 16, 24, 4, 256
local SLACK_MS = 60000 -- parts outlive their window's time in sight, so that no clock of a replica cuts it short
-- A hash of few and short fields is searched from its beginning; one with a field as long as this never is.
local HEAD, LONG = '', string.rep(' ', 65)

local redis_call, string_byte, string_find = redis.call, string.byte, string.find

local PIECE = 500 -- Lua's stack does not hold the arguments of more than some thousand

local function in_pieces(command, key, arguments)
  for at = 1, #arguments, 2 * PIECE do
    redis_call(command, key, unpack(arguments, at, math.min(at + 2 * PIECE - 1, #arguments)))
  end
end

local function window_end(window)
  return window.ended > 0 and window.ended or window.opened + window.remember
end

local function in_sight(window)
  return now_ms < window_end(window) + window.remember
end

local windows = {} -- newest first
local searched = {} -- those of them that may hold a done key
for at = 1, #stored_windows, WINDOW_SIZE do
  local window = {}
  window.number, window.width, window.count, window.opened, window.ended, window.remember =
    struct.unpack(WINDOW, stored_windows, at)
  windows[#windows + 1] = window
  if window.count > 0 and in_sight(window) then
    searched[#searched + 1] = window
  end
end

local function part_key(window, part)
  return PREFIX .. 'd:' .. window.number .. ':' .. part
end

-- Which of a window's parts each of these is in: part -> the places in `wanted`, and beside them their fields. `split`
-- holds two strings for each digest, its field and the rest; `wanted` says which digests.
local function by_part(window, split, wanted)
  local width, places, fields = window.width, {}, {}
  for at = 1, #wanted do
    local place = 2 * wanted[at] - 1
    local part = string_byte(split[place]) * PARTS / 256
    part = part - part % 1
    if width > 1 then
      local narrow = string_byte(split[place + 1]) * width / 256
      part = part * width + narrow - narrow % 1
    end
    local in_part = places[part]
    if not in_part then
      places[part], fields[part] = { wanted[at] }, { split[place] }
    else
      local last = #in_part + 1
      in_part[last], fields[part][last] = wanted[at], split[place]
    end
  end
  return places, fields
end

-- The value at which a bucket holds this, or nil.
local function value_in(bucket, rest)
  local at = string_find(bucket, rest, 1, true)
  while at and at % RECORD_SIZE ~= 1 do -- across two records
    at = string_find(bucket, rest, at + 1, true)
  end
  if not at then
    return nil
  end
  local low, high = string_byte(bucket, at + RECORD_SIZE - 2, at + RECORD_SIZE - 1)
  local value = high * 256 + low
  if value >= 2 * SHORT_SESSION then
    refuse('a done key of the namespace at ' .. META .. ' is of an unknown kind: a newer kafka-once or another '
      .. 'program wrote it; use that version, or another database')
  end
  return value
end

-- Answers which of the wanted are done: place -> value.
local function done_values(split, wanted)
  local found = {}
  for _, window in ipairs(searched) do
    if #wanted == 0 then
      break
    end
    local open = {}
    local places, fields = by_part(window, split, wanted)
    for part, in_part in pairs(places) do
      local buckets = redis_call('HMGET', part_key(window, part), unpack(fields[part]))
      for at = 1, #in_part do
        local place, bucket = in_part[at], buckets[at]
        local value = bucket and value_in(bucket, split[2 * place])
        if value then
          found[place] = value
        else
          open[#open + 1] = place
        end
      end
    end
    wanted = open
  end
  return found
end

-- A new window follows when the last is over, full, or promises less than this caller does.
local function new_window()
  local last = windows[1]
  local width, number = 1, 1
  if last then
    local full = last.count >= FULL * BUCKETS * last.width
    width = full and last.width * GROWTH or math.ceil(last.count / (AVERAGE * BUCKETS))
    width = math.max(1, math.min(width, WIDEST))
    number = last.number + 1
    last.ended = math.min(now_ms, window_end(last))
  end
  table.insert(windows, 1, {
    number = number, width = width, count = 0, opened = now_ms, ended = 0, remember = remember_ms,
  })
end

-- The newest stays in any case: it keeps the number. What is out of sight goes, in the server's own time.
local function packed_windows()
  local packed = {}
  for at, window in ipairs(windows) do
    if at == 1 or in_sight(window) then
      packed[#packed + 1] = struct.pack(WINDOW, window.number, window.width, window.count, window.opened, window.ended,
        window.remember)
    else
      for part = 0, PARTS * window.width - 1 do
        redis_call('UNLINK', part_key(window, part))
      end
    end
  end
  return table.concat(packed)
end

local grown = {} -- key of a part -> field -> bucket as it will be
local is_new = {} -- key of a part -> when it expires

-- Decide where these are written as done: `split` as above, `values` one for each, packed. Nothing is written yet.
local function add_dones(split, values)
  local window, wanted = windows[1], {}
  if not window or now_ms >= window_end(window) or window.remember < remember_ms
      or window.count >= FULL * BUCKETS * window.width then
    new_window()
    window = windows[1]
  end
  for place = 1, #values do
    wanted[place] = place
  end
  window.count = window.count + #values
  local places, fields = by_part(window, split, wanted)
  for part, in_part in pairs(places) do
    local key, of_part = part_key(window, part), fields[part]
    local buckets = redis_call('HMGET', key, HEAD, unpack(of_part))
    if not buckets[1] then
      is_new[key] = window.opened + 2 * window.remember + SLACK_MS
    end
    local of_key = grown[key] or {}
    grown[key] = of_key
    for at = 1, #in_part do
      local place, field = in_part[at], of_part[at]
      of_key[field] = (of_key[field] or buckets[at + 1] or '') .. split[2 * place] .. values[place]
    end
  end
end

local function write_dones()
  for key, buckets in pairs(grown) do
    local changed = is_new[key] and { HEAD, LONG } or {}
    for field, bucket in pairs(buckets) do
      local last = #changed
      changed[last + 1], changed[last + 2] = field, bucket
    end
    in_pieces('HSET', key, changed)
    if is_new[key] then
      redis_call('PEXPIREAT', key, digits(is_new[key]))
    end
  end
  if next(grown) then
    redis_call('HSET', META, 'windows', packed_windows())
  end
end
