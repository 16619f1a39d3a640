-- One report line as JSON on standard error, and a request body of the length asked for: -- METHOD LENGTH

function init(args)
   if args[1] == "POST" then
      wrk.method = "POST"
      wrk.body = string.rep("x", tonumber(args[2]))
   end
end

function done(summary, latency, requests)
   local errors = summary.errors
   io.stderr:write(string.format(
      '{"requests":%d,"seconds":%.6f,"p50_us":%.1f,"p99_us":%.1f,"errors":%d}\n',
      summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
      errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
