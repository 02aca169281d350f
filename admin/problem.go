package admin

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
)

// problem is an error as RFC 9457 has it. Type is left out: about:blank, so that
// Title is the status's own phrase (RFC 9457 4.2.1).
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	// Errors names the fields of the request's JSON that are wrong.
	Errors []FieldError `json:"errors,omitempty"`
}

func writeProblem(w http.ResponseWriter, status int, detail string) {
	writeBody(w, status, "application/problem+json", problem{Title: http.StatusText(status), Status: status, Detail: detail})
}

// writeFieldProblem says which fields of the request are wrong.
func writeFieldProblem(w http.ResponseWriter, status int, detail string, fields ...FieldError) {
	writeBody(w, status, "application/problem+json", problem{http.StatusText(status), status, detail, fields})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	writeBody(w, status, "application/json", v)
}

// writeBody encodes before it writes, so that what cannot be encoded becomes an
// error and never half an answer.
func writeBody(w http.ResponseWriter, status int, mediaType string, v any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		status, mediaType = http.StatusInternalServerError, "application/problem+json"
		b.Reset()
		b.WriteString(`{"title":"Internal Server Error","status":500,"detail":"the answer cannot be written as JSON"}`)
	}
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(status)
	w.Write(b.Bytes()) // fails only when the client has left
}
