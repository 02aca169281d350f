package script

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

// echoBodyMax bounds the body that is shown back by /_origin/echo.
const echoBodyMax = 64 << 10

// Echo is what /_origin/echo and /_origin/raw/... answer with: the request as
// it was received.
type Echo struct {
	Method string `json:"method"`
	// Target as it stood in the request line or :path. TargetBytes holds the
	// same bytes (base64 in JSON), for targets that are no UTF-8.
	Target      string              `json:"target"`
	TargetBytes []byte              `json:"target_bytes"`
	Host        string              `json:"host"`
	Proto       string              `json:"proto"`
	TLS         bool                `json:"tls"`
	ServerName  string              `json:"server_name,omitempty"`
	Remote      string              `json:"remote"`
	Header      map[string][]string `json:"header"`
	Trailer     map[string][]string `json:"trailer,omitempty"`
	Length      int64               `json:"length"` // Content-Length, -1 unknown
	Body        string              `json:"body,omitempty"`
}

func (s *Script) echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, echoBodyMax))
	if err != nil {
		http.Error(w, "reading the body: "+err.Error(), http.StatusBadRequest)
		return
	}
	e := Echo{
		Method: r.Method, Target: r.RequestURI, TargetBytes: []byte(r.RequestURI), Host: r.Host,
		Proto: r.Proto, TLS: r.TLS != nil, Remote: r.RemoteAddr,
		Header: r.Header, Trailer: r.Trailer, Length: r.ContentLength, Body: string(body),
	}
	if r.TLS != nil {
		e.ServerName = r.TLS.ServerName
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, e)
}

func (s *Script) redirect(w http.ResponseWriter, r *http.Request) {
	p := newParams(r)
	status := p.number("status", http.StatusFound, 300, 308)
	for _, f := range p.fields("header") {
		w.Header().Add(f.name, f.value)
	}
	if !p.ok(w) {
		return
	}
	to := p.text("to")
	if to == "" {
		to = "/"
	}
	w.Header().Set("Location", to)
	w.WriteHeader(status)
}

// Upload is what /_origin/upload answers with.
type Upload struct {
	Length  int64               `json:"length"` // bytes of the body
	SHA256  string              `json:"sha256"` // of the body, hexadecimal
	Trailer map[string][]string `json:"trailer,omitempty"`
}

// upload reads the whole body and says what it was. With delay it waits that
// long before the first read.
func (s *Script) upload(w http.ResponseWriter, r *http.Request) {
	p := newParams(r)
	delay := p.delay("delay", 0)
	if !p.ok(w) || !wait(r, delay) {
		return
	}
	hash := sha256.New()
	n, err := io.Copy(hash, http.MaxBytesReader(w, r.Body, sizeMax))
	if err != nil {
		http.Error(w, "reading the body: "+err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, Upload{n, hex.EncodeToString(hash.Sum(nil)), r.Trailer})
}

// sse sends count events, one each interval.
func (s *Script) sse(w http.ResponseWriter, r *http.Request) {
	p := newParams(r)
	interval := p.delay("interval", time.Second)
	count := p.number("count", 10, 1, chunksMax)
	if !p.ok(w) {
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	flush := http.NewResponseController(w).Flush
	for i := range count {
		if i > 0 && !wait(r, interval) {
			return
		}
		if _, err := fmt.Fprintf(w, "id: %d\ndata: event %d of %d\n\n", i+1, i+1, count); err != nil || flush() != nil {
			return
		}
	}
}

// websocket sends every message back, until the client closes.
func (s *Script) websocket(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		InsecureSkipVerify: true, // whichever name the page came under
		Subprotocols:       []string{"echo"},
	})
	if err != nil {
		return // Accept has answered
	}
	defer conn.CloseNow()
	conn.SetReadLimit(1 << 20)
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	for {
		kind, message, err := conn.Read(ctx)
		if err != nil {
			return
		}
		if err := conn.Write(ctx, kind, message); err != nil {
			return
		}
	}
}
