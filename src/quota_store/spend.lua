-- Takes one call from an account by GCRA, as the gateway does it in memory, but on this server's clock.
-- KEYS[1]: the account. ARGV: the nanoseconds in which one call comes back, and a whole burst.
-- Gives whether the call passes, 1 or 0, and the nanoseconds until the burst is whole.
local interval, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local seconds, nanos = tonumber(time[1]), tonumber(time[2]) * 1000

-- An account is the time at which its burst is whole, in nanoseconds since 1970: a number to Redis, which
-- keeps it in 8 bytes, but one with more digits than a Lua number has, so it is never read as a whole.
local whole_in = 0
-- What is no such number, whoever put it there, is no reason to take Redis for broken: the account begins anew.
local account = redis.pcall('GET', KEYS[1])
if type(account) == 'table' and not string.find(account.err, '^WRONGTYPE') then
    return account
end
if type(account) == 'string' and string.find(account, '^%d+$') and #account > 9 and #account < 30 then
    whole_in = (tonumber(string.sub(account, 1, -10)) - seconds) * 1e9 + tonumber(string.sub(account, -9)) - nanos
    -- Beyond a window it can be when the quota's numbers were others, or the clock was set back.
    whole_in = math.min(math.max(whole_in, 0), window)
end
if whole_in + interval > window then
    return { 0, whole_in }
end
whole_in = whole_in + interval

local whole_at = nanos + whole_in
local rest = math.fmod(whole_at, 1e9)
account = string.format('%.0f%09.0f', seconds + (whole_at - rest) / 1e9, rest)
redis.call('SET', KEYS[1], account, 'PX', math.ceil(whole_in / 1e6))
return { 1, whole_in }
