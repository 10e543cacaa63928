-- One chat request, sent over and over with another number in it (canned.NUMBER), and the run's
-- figures as one line of JSON.
-- Arguments after `--`: the file with the request body, then headers as "Name: value".

function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.method = "POST"
  wrk.body = file:read("*a")
  file:close()
  wrk.headers["Content-Type"] = "application/json"
  for i = 2, #args do
    local name, value = args[i]:match("^([^:]+):%s*(.*)$")
    wrk.headers[name] = value
  end
  -- Built once: wrk would otherwise format the same request anew for every send.
  local prepared = wrk.format()
  local first, last = prepared:find(string.rep("0", 6), 1, true)
  assert(first, "there is no 000000 in the body")
  local before, behind = prepared:sub(1, first - 1), prepared:sub(last + 1)
  math.randomseed(os.time())
  local number = math.random(0, 999999)
  request = function()
    number = (number + 1) % 1000000
    return before .. string.format("%06d", number) .. behind
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'WRK {"duration_us":%d,"requests":%d,"bytes":%d,' ..
    '"errors":{"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d},' ..
    '"latency_us":{"p50":%d,"p90":%d,"p99":%d,"max":%d}}\n',
    summary.duration, summary.requests, summary.bytes,
    errors.connect, errors.read, errors.write, errors.status, errors.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max))
end
