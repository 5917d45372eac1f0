-- Done keys: where they stand, and how they are forgotten. This text stands before each script that touches them, and is
-- the only place that knows of windows and buckets.
--
-- A done key is a field of a small hash (a bucket), so that it costs two dozen bytes; a bucket must stay so small that
-- the server keeps it as a listpack. Buckets belong to a window: a stretch of time that ends after remember_ms, or when
-- its buckets are full. A window is looked at for remember_ms after its end, so two are in sight at least and a few
-- more while a namespace grows; what was completed at its end is remembered for remember_ms, what was completed earlier
-- for longer. After that its buckets expire as a whole.
--
-- A digest's first three bytes choose its bucket. The number of buckets is a multiple of 256, so the first byte follows
-- from the bucket, and is left out of the field.
--
-- Windows stand in meta, newest first: number, buckets, how many of them were made, count of keys, opened ms, ended ms
-- (0: open), remember ms. Their numbers never go back, whatever the clock does.

local WINDOW, WINDOW_SIZE = '<I4I4I4I4I8I8I8', 40
local SHORT_SESSION = 2048 -- a value is this times its kind (0 completed, 1 dead-lettered) plus low bits of the session
local FIRST_BUCKETS, AVERAGE, FULL, GROWTH = 1024, 64, 96, 4
local SLACK_MS = 60000 -- buckets outlive their window's time in sight, so that no clock of a replica cuts it short

local function window_end(window)
  return window.ended > 0 and window.ended or window.opened + window.remember
end

local function in_sight(window)
  return now_ms < window_end(window) + window.remember
end

local function window_of(number, buckets, made, count, opened, ended, remember)
  return {
    number = number, buckets = buckets, made = made, count = count, opened = opened, ended = ended, remember = remember,
    prefix = PREFIX .. 'd:' .. number .. ':', expires = digits(opened + 2 * remember + SLACK_MS),
  }
end

local windows = {}
local stored_windows = redis.call('HGET', META, 'windows') or ''
for at = 1, #stored_windows, WINDOW_SIZE do
  windows[#windows + 1] = window_of(struct.unpack(WINDOW, stored_windows, at))
end

-- To write a number costs more than all the rest of a name, so each is written once in a call.
local texts = setmetatable({}, {
  __index = function(known, number)
    known[number] = tostring(number)
    return known[number]
  end,
})

-- Named by the digest's first byte, and the place among the buckets of that first byte.
local function bucket_of(window, first, rest)
  local second, third = string.byte(rest, 1, 2)
  local place = (second * 256 + third) * window.buckets / 16777216
  return window.prefix .. texts[first] .. '.' .. texts[place - place % 1]
end

-- A digest is handed over as its first byte and the rest. Answers the value, false if there is none.
local function done_value(first, rest)
  for _, window in ipairs(windows) do
    if window.count > 0 and in_sight(window) then
      local value = redis.call('HGET', bucket_of(window, first, rest), rest)
      if value then
        local number = tonumber(value)
        if not number or number < 0 or number >= 2 * SHORT_SESSION then
          refuse('a done key in the bucket ' .. bucket_of(window, first, rest) .. ' is of an unknown kind: a newer '
            .. 'kafka-once or another program wrote it; use that version, or another database')
        end
        return number
      end
    end
  end
  return false
end

-- The window to write into; a new one if the last is over, full, or promises less than this caller does.
local function current_window()
  local last = windows[1]
  local full = last and last.count >= FULL * last.buckets
  if last and last.ended == 0 and now_ms < window_end(last) and not full and last.remember >= remember_ms then
    return last
  end
  local buckets = FIRST_BUCKETS
  if last then
    last.ended = math.min(now_ms, window_end(last))
    local wanted = full and last.buckets * GROWTH or last.count / AVERAGE
    buckets = math.max(FIRST_BUCKETS, math.ceil(wanted / 256) * 256)
  end
  table.insert(windows, 1, window_of(last and last.number + 1 or 1, buckets, 0, 0, now_ms, 0, remember_ms))
  return windows[1]
end

local function packed_windows()
  local packed = {}
  for at, window in ipairs(windows) do
    if at == 1 or in_sight(window) then -- the newest stays in any case: it keeps the number
      packed[#packed + 1] = struct.pack(WINDOW, window.number, window.buckets, window.made, window.count,
        window.opened, window.ended, window.remember)
    end
  end
  return table.concat(packed)
end

local function write_done(first, rest, value)
  local window = current_window()
  local bucket = bucket_of(window, first, rest)
  window.count = window.count + redis.call('HSET', bucket, rest, texts[value])
  if window.made < window.buckets and redis.call('HLEN', bucket) == 1 then
    redis.call('PEXPIREAT', bucket, window.expires)
    window.made = window.made + 1
  end
end
