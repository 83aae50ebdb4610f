-- The gateway's rules for nginx.

local policy = {}

local accounts, metrics = ngx.shared.accounts, ngx.shared.metrics
local RATE, BURST = 1000000, 1000000
local BUCKETS = { 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30 }
local LOOKUPS = { customer_id = true, subscription_id = true, orderid = true }

function policy.refuse(status, code, title, detail)
    ngx.var.code = code
    local id = ngx.var.request_id
    local body = '{"type":"urn:n4n-gateway:' .. code .. '","title":"' .. title .. '","status":' .. status
        .. ',"detail":"' .. detail .. '","code":"' .. code .. '","request_id":"' .. id .. '"}'
    ngx.status = status
    local header = ngx.header
    header["Content-Type"] = "application/problem+json"
    header["Content-Length"] = #body
    header["Cache-Control"] = "no-store"
    header["X-Request-Id"] = id
    ngx.print(body)
    return ngx.exit(status)
end

-- GCRA: an account is the time at which it is whole again.
local function spend(user)
    local rate, burst = RATE, BURST
    if user == "spent" then rate, burst = 1 / 3600, 1 end
    local now = ngx.now()
    local interval = 1 / rate
    local whole_at = math.max(accounts:get(user) or now, now) + interval
    if whole_at - now > interval * burst + 1e-9 then return nil, whole_at - now - interval * burst end
    accounts:set(user, whole_at, whole_at - now + 60)
    return math.floor(burst - (whole_at - now) * rate), whole_at - now
end

function policy.judge()
    local refuse = policy.refuse
    if ngx.req.get_method() ~= "PATCH" then
        ngx.header["Allow"] = "PATCH"
        return refuse(405, "method_not_allowed", "Not this method", "Send PATCH.")
    end
    local fields, truncated = ngx.req.get_headers(64)
    if truncated then return refuse(431, "header_too_large", "Too many fields", "Send fewer.") end
    if fields["x-http-method"] or fields["x-http-method-override"] or fields["x-method-override"] then
        return refuse(400, "method_override", "An override", "Leave the override out.")
    end
    if ngx.var.is_args ~= "" then return refuse(400, "query_not_allowed", "A query", "Leave the query out.") end
    local key, user = fields["api-key"], fields["api-username"]
    if not key or not user or key == "" or user == "" then
        return refuse(401, "credential_missing", "No credentials", "Send api-key and api-username.")
    end
    if type(key) == "table" or type(user) == "table" then
        return refuse(400, "credential_ambiguous", "Credentials twice", "Send each once.")
    end
    if #key > 256 or #user > 256 or not ngx.re.find(key, "^[!-~]+$", "jo") or not ngx.re.find(user, "^[!-~]+$", "jo") then
        return refuse(400, "credential_malformed", "Malformed credentials", "Send visible ASCII.")
    end
    local media_type = fields["content-type"]
    if type(media_type) ~= "string"
        or not ngx.re.find(media_type, "^application/x-www-form-urlencoded(?:; *charset=utf-8)?$", "ijo") then
        return refuse(415, "media_type_unsupported", "Not a form", "Send a form.")
    end
    ngx.req.read_body()
    local form, too_many = ngx.req.get_post_args(100)
    if not form or too_many then return refuse(400, "body_malformed", "Not a form", "Send a form.") end
    local lookup, value
    for name, given in pairs(form) do
        if not LOOKUPS[name] then
            return refuse(400, "parameter_unknown", "Another parameter", "Leave it out.")
        end
        if lookup or type(given) == "table" then
            return refuse(400, "lookup_ambiguous", "More than one lookup",
                "Send exactly one of customer_id, subscription_id and orderid, once.")
        end
        lookup, value = name, given
    end
    if not lookup then
        return refuse(400, "lookup_missing", "No lookup", "Send one of customer_id, subscription_id and orderid.")
    end
    if type(value) ~= "string" or not ngx.re.find(value, "^(?:[1-9][0-9]{0,17}|[A-Za-z][0-9A-Za-z_.:-]{0,63})$", "jo") then
        return refuse(400, "lookup_invalid", "Not an id", "Send an id.")
    end
    local left, seconds = spend(user)
    if not left then
        ngx.header["Retry-After"] = math.ceil(seconds)
        return refuse(429, "quota_exceeded", "Over the quota", "Send the call again after the seconds in Retry-After.")
    end
    ngx.var.lookup = lookup
    ngx.req.set_body_data(lookup .. "=" .. ngx.escape_uri(value))
    ngx.header["RateLimit-Policy"] = '"user";q=1000000;w=1'
    ngx.header["RateLimit"] = '"user";r=' .. left .. ";t=" .. math.ceil(seconds)
end

-- Two counters and a histogram a request.
function policy.count()
    local code = ngx.var.code
    metrics:incr("requests " .. code .. " " .. ngx.status, 1, 0)
    local seconds = tonumber(ngx.var.request_time)
    for index = 1, #BUCKETS do
        if seconds <= BUCKETS[index] then
            metrics:incr(index, 1, 0)
            return
        end
    end
    metrics:incr("over", 1, 0)
end

function policy.metrics()
    for _, key in ipairs(metrics:get_keys(0)) do ngx.say(key, " ", metrics:get(key)) end
end

return policy
