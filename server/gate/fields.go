package gate

// fields.go takes a final header as a list from handlers that have one, as the
// cache does: the maps of net/http would be made for the engine to take apart again.

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"edgecdn/cache"
)

var _ cache.FieldWriter = (*response)(nil)

// WriteFields implements cache.FieldWriter.
func (w *response) WriteFields(status int, fields []cache.Field) {
	if w.wrote || w.hijacked != nil {
		return
	}
	if len(w.header) > 0 || status < 200 || status > 999 || w.body.tooLong() {
		for _, f := range fields {
			name := canonicalName(f.Name)
			w.Header()[name] = append(w.Header()[name], f.Value)
		}
		w.WriteHeader(status)
		return
	}
	x := w.x
	w.wrote, x.Status, x.FirstByte = true, status, time.Since(x.start)
	w.framing = Framing{Length: -1, Bodyless: x.Request.Method == http.MethodHead || !bodyAllowed(status)}
	dated := false
	w.fields = slices.DeleteFunc(fields, func(f cache.Field) bool {
		switch f.Name {
		case "content-length":
			if n, err := strconv.ParseInt(f.Value, 10, 64); err == nil && n >= 0 && status != http.StatusNoContent {
				w.framing.Length = n
			}
			return true
		case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
			return true // as framingField
		case "date":
			dated = true
		case "strict-transport-security":
			return x.HSTS() != ""
		case "alt-svc":
			return x.door.AltSvc != ""
		}
		return !httpguts.ValidHeaderFieldName(f.Name)
	})
	if !dated {
		w.fields = append(w.fields, cache.Field{Name: "date", Value: time.Now().UTC().Format(http.TimeFormat)}) // RFC 9110 6.6.1
	}
	if x.door.AltSvc != "" {
		w.fields = append(w.fields, cache.Field{Name: "alt-svc", Value: x.door.AltSvc})
	}
	if hsts := x.HSTS(); hsts != "" {
		w.fields = append(w.fields, cache.Field{Name: "strict-transport-security", Value: hsts})
	}
	slices.SortStableFunc(w.fields, func(a, b cache.Field) int { return strings.Compare(a.Name, b.Name) })
}
