package origin

// sender.go is the seam between which endpoint is asked, how often and when
// (upstream.go and what it calls) and how the bytes of one request go to one
// endpoint and come back (who implements sender).

import "net/http"

// sender carries requests to one endpoint. It has its connections, it keeps the
// time of each phase, and it tries once: whether to try again, and where, is not
// its affair.
type sender interface {
	// roundTrip sends r, with the Header, Host and Body that it has, for target:
	// path and query in origin form behind the path of the origin's URL, or "*".
	// It closes r.Body, perhaps after it has returned.
	//
	// Errors are *Error, unsent where the endpoint has not seen a byte of the
	// request, or context.Canceled, both from here and from the response's Body.
	// The Body is as Transport.RoundTrip promises it.
	roundTrip(r *http.Request, target string) (*http.Response, error)
	// retire closes connections as they become idle. It is called once, perhaps
	// with requests under way, which end as they began; some may even begin after it.
	retire()
}
