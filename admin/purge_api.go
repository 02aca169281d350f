package admin

// Purges over the REST API: POST makes one, GET shows receipts.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

const (
	purgesPath    = "/v1/purges"
	pageDefault   = 20
	pageMax       = 100
	pageTargets   = 10 // of each receipt in a page
	waitDefault   = 5 * time.Second
	waitMax       = time.Minute
	keyBytesMax   = 255
	bodiesMax     = 16 // purges that are read and decoded at the same time
	fullRetry     = 5 * time.Second
	startingRetry = time.Second
)

// accepted is what POST answers before the purge is applied everywhere.
type accepted struct {
	ID    string      `json:"id"`
	State string      `json:"state"`
	Links purgesLinks `json:"links"`
}

type purgesLinks struct {
	Self   string `json:"self"`
	Events string `json:"events"`
}

// purges returns what purges, or answers that the node is not that far yet.
func (s *Server) purges(w http.ResponseWriter) Purges {
	purges := s.src.Purges()
	if purges == nil {
		retryAfter(w, startingRetry)
		writeProblem(w, http.StatusServiceUnavailable, "the node is still starting: try again when it serves")
	}
	return purges
}

// postPurge makes a purge. It answers when the purge is durable and applied here,
// or with ?wait=all when it is applied everywhere.
func (s *Server) postPurge(w http.ResponseWriter, r *http.Request) {
	purges := s.purges(w)
	if purges == nil {
		return
	}
	wait, ok := waitOf(w, r)
	if !ok {
		return
	}
	p, ok := s.readPurge(w, r)
	if !ok {
		return
	}
	if p.dryRun {
		receipt, err := purges.DryRun(r.Context(), p.PurgeRequest)
		if err != nil {
			s.failPurge(w, r, p, err)
			return
		}
		writeJSON(w, http.StatusOK, receipt)
		return
	}
	receipt, err := purges.Purge(r.Context(), p.PurgeRequest)
	if err != nil {
		s.failPurge(w, r, p, err)
		return
	}
	status := http.StatusAccepted
	if wait > 0 {
		ctx, cancel := context.WithTimeout(r.Context(), wait)
		defer cancel()
		if applied, err := purges.Wait(ctx, receipt.ID); err == nil {
			receipt, status = applied, http.StatusOK
		}
	}
	s.stats.PurgesAccepted.Add(1)
	s.audit.note(credentialOf(r), r, p.what(), status, "purge "+receipt.ID)
	self := purgesPath + "/" + url.PathEscape(receipt.ID)
	w.Header().Set("Location", self)
	if status == http.StatusOK {
		writeJSON(w, status, receipt)
		return
	}
	writeJSON(w, status, accepted{receipt.ID, receipt.State, purgesLinks{self, purgesPath + "/events"}})
}

// waitOf reads ?wait=all&timeout=5s; 0 is not to wait.
func waitOf(w http.ResponseWriter, r *http.Request) (time.Duration, bool) {
	q, ok := queryOf(w, r, "wait", "timeout")
	if !ok {
		return 0, false
	}
	if wait, ok := q["wait"]; !ok || wait[0] != "all" {
		if !ok && q["timeout"] == nil {
			return 0, true
		}
		writeFieldProblem(w, http.StatusBadRequest, "the query cannot be understood", FieldError{"wait", "is all, or left out together with timeout"})
		return 0, false
	}
	timeout := waitDefault
	if text, ok := q["timeout"]; ok {
		var err error
		if timeout, err = time.ParseDuration(text[0]); err != nil || timeout <= 0 || timeout > waitMax {
			writeFieldProblem(w, http.StatusBadRequest, "the query cannot be understood", FieldError{"timeout", fmt.Sprintf("is a time such as 5s, at most %v", waitMax)})
			return 0, false
		}
	}
	return timeout, true
}

// queryOf returns the query, which may hold known parameters alone, once each;
// else it answers.
func queryOf(w http.ResponseWriter, r *http.Request, known ...string) (url.Values, bool) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		writeProblem(w, http.StatusBadRequest, "the query cannot be understood")
		return nil, false
	}
	for name, values := range q {
		detail := ""
		if len(values) > 1 {
			detail = "is there twice"
		}
		if !slices.Contains(known, name) {
			detail = "is not known here"
		}
		if detail != "" {
			writeFieldProblem(w, http.StatusBadRequest, "the query cannot be understood", FieldError{fmt.Sprintf("%.40s", name), detail})
			return nil, false
		}
	}
	return q, true
}

// readPurge reads and decodes the body and asks whether the token may; else it
// answers.
func (s *Server) readPurge(w http.ResponseWriter, r *http.Request) (*purgeBody, bool) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		w.Header().Set("Accept", "application/json")
		writeProblem(w, http.StatusUnsupportedMediaType, "send the purge as Content-Type: application/json")
		return nil, false
	}
	key, ok := idempotencyKey(w, r)
	if !ok {
		return nil, false
	}
	select {
	case s.bodies <- struct{}{}:
	default:
		retryAfter(w, startingRetry)
		writeProblem(w, http.StatusServiceUnavailable, fmt.Sprintf("%d purges are being read: try again", bodiesMax))
		return nil, false
	}
	raw, err := io.ReadAll(r.Body)
	var p *purgeBody
	if err == nil {
		p, err = decodePurge(raw)
	}
	<-s.bodies
	if err != nil {
		s.refuseBody(w, r, err)
		return nil, false
	}
	c := credentialOf(r)
	p.Actor, p.Key = c.name, key
	return p, s.allowed(w, r, c, p) && s.spend(w, c, len(p.Targets)/useTargets)
}

func (s *Server) refuseBody(w http.ResponseWriter, r *http.Request, err error) {
	var fields FieldErrors
	switch large := (*http.MaxBytesError)(nil); {
	case errors.As(err, &large):
		writeProblem(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes: make several purges of it", large.Limit))
	case errors.As(err, &fields):
		s.refusePurge(w, r, "a purge that is malformed", http.StatusUnprocessableEntity, "fields of the purge are wrong", fields)
	case errors.Is(err, errSyntax):
		writeProblem(w, http.StatusBadRequest, err.Error())
	default: // the client left, or broke the protocol
		writeProblem(w, http.StatusBadRequest, "the body did not arrive")
	}
}

// refusePurge answers, counts and notes a purge that is not made.
func (s *Server) refusePurge(w http.ResponseWriter, r *http.Request, what string, status int, detail string, fields FieldErrors) {
	s.stats.PurgesRefused.Add(1)
	result := detail
	if len(fields) > 0 {
		result += ": " + fields.Error()
	}
	s.audit.note(credentialOf(r), r, what, status, result)
	writeFieldProblem(w, status, detail, fields...)
}

// allowed reports whether the token may make the purge; else it answers.
func (s *Server) allowed(w http.ResponseWriter, r *http.Request, c *credential, p *purgeBody) bool {
	if p.Kind == PurgeAll {
		if c.may([]Scope{ScopePurgeAll}) {
			return true
		}
		s.stats.PurgesRefused.Add(1)
		s.audit.note(c, r, p.what(), http.StatusForbidden, "no scope "+string(ScopePurgeAll))
		s.forbid(w, []Scope{ScopePurgeAll}, fmt.Sprintf("the token %s has no scope %s", c.name, ScopePurgeAll))
		return false
	}
	var denied FieldErrors
	for i, host := range p.hosts {
		if c.mayPurge(host) || len(denied) == fieldErrorsMax {
			continue
		}
		field := p.at(p.kinds[0], i)
		if p.Kind == PurgeGroup {
			field = "groups.host"
		}
		denied = append(denied, FieldError{field, fmt.Sprintf("the token %s may not purge of %s", c.name, host)})
	}
	if len(denied) == 0 {
		return true
	}
	s.stats.Forbidden.Add(1)
	w.Header().Set("WWW-Authenticate", `Bearer realm="edge", error="insufficient_scope", scope="purge"`)
	s.refusePurge(w, r, p.what(), http.StatusForbidden, fmt.Sprintf("the token %s may not purge this; nothing was purged", c.name), denied)
	return false
}

// failPurge answers what Purges returned.
func (s *Server) failPurge(w http.ResponseWriter, r *http.Request, p *purgeBody, err error) {
	var fields FieldErrors
	switch {
	case errors.As(err, &fields):
		s.refusePurge(w, r, p.what(), http.StatusUnprocessableEntity, "fields of the purge are wrong", p.asSent(fields))
	case errors.Is(err, ErrKeyReused):
		s.refusePurge(w, r, p.what(), http.StatusUnprocessableEntity, ErrKeyReused.Error(), nil)
	case errors.Is(err, ErrPurgesFull):
		retryAfter(w, fullRetry)
		s.refusePurge(w, r, p.what(), http.StatusServiceUnavailable, ErrPurgesFull.Error(), nil)
	case errors.Is(err, ErrNotDurable):
		s.log.Error("admin: purge", "err", err)
		s.refusePurge(w, r, p.what(), http.StatusServiceUnavailable, ErrNotDurable.Error()+": it may be in force until the next start; the node's log says why", nil)
	default:
		s.log.Error("admin: purge", "err", err)
		s.refusePurge(w, r, p.what(), http.StatusInternalServerError, "the purge failed; the node's log says why", nil)
	}
}

// what says what the purge is, for the audit log.
func (p *PurgeRequest) what() string {
	text := "purge " + string(p.Kind)
	if p.Soft {
		text = "soft " + text
	}
	if p.Host != "" {
		text += " of " + p.Host
	}
	for i, target := range p.Targets {
		if i == 3 {
			return fmt.Sprintf("%s and %d more", text, len(p.Targets)-i)
		}
		text += " " + target
	}
	return text
}

// idempotencyKey reads the field, with the quotes of its draft or without; "" is none.
func idempotencyKey(w http.ResponseWriter, r *http.Request) (string, bool) {
	fields := r.Header["Idempotency-Key"]
	if len(fields) == 0 {
		return "", true
	}
	key := fields[0]
	if n := len(key); n >= 2 && key[0] == '"' && key[n-1] == '"' {
		key = key[1 : n-1]
	}
	plain := key != "" && len(key) <= keyBytesMax
	for _, c := range []byte(key) {
		plain = plain && c > ' ' && c < 0x7f && c != '"' && c != '\\'
	}
	if len(fields) > 1 || !plain {
		writeProblem(w, http.StatusBadRequest, fmt.Sprintf("Idempotency-Key is one text of 1 to %d visible characters, such as a UUID", keyBytesMax))
		return "", false
	}
	return key, true
}

// visible says whether a token may see a receipt: those that may only purge see
// what they purged themselves.
func visible(c *credential, receipt *Receipt) bool {
	return c.may([]Scope{ScopeRead}) || receipt.Actor == c.name
}

func (s *Server) getPurge(w http.ResponseWriter, r *http.Request) {
	purges := s.purges(w)
	if purges == nil {
		return
	}
	q, ok := queryOf(w, r, "counts")
	if !ok {
		return
	}
	if q.Has("counts") && q.Get("counts") != "all" {
		writeFieldProblem(w, http.StatusBadRequest, "the query cannot be understood", FieldError{"counts", "is all, or left out"})
		return
	}
	receipt, ok := purges.Receipt(r.PathValue("id"))
	if ok && q.Has("counts") && visible(credentialOf(r), &receipt) {
		receipt, ok = purges.Counts(r.Context(), r.PathValue("id"))
	}
	if !ok || !visible(credentialOf(r), &receipt) {
		writeProblem(w, http.StatusNotFound, ErrPurgeUnknown.Error())
		return
	}
	writeJSON(w, http.StatusOK, receipt)
}

// page is what GET /v1/purges answers.
type page struct {
	Purges []Receipt `json:"purges"`
	// Next is the page that follows, "" where there is none.
	Next string `json:"next,omitempty"`
}

func (s *Server) listPurges(w http.ResponseWriter, r *http.Request) {
	purges := s.purges(w)
	if purges == nil {
		return
	}
	q, ok := queryOf(w, r, "before", "limit")
	if !ok {
		return
	}
	limit := pageDefault
	if text := q.Get("limit"); q.Has("limit") {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > pageMax {
			writeFieldProblem(w, http.StatusBadRequest, "the query cannot be understood", FieldError{"limit", fmt.Sprintf("is a number from 1 to %d", pageMax)})
			return
		}
	}
	list, next := purges.List(q.Get("before"), limit)
	c := credentialOf(r)
	answer := page{Purges: []Receipt{}}
	for i := range list {
		if visible(c, &list[i]) {
			list[i].Targets = list[i].Targets[:min(len(list[i].Targets), pageTargets)]
			answer.Purges = append(answer.Purges, list[i])
		}
	}
	if next != "" {
		answer.Next = purgesPath + "?" + url.Values{"before": {next}, "limit": {strconv.Itoa(limit)}}.Encode()
	}
	writeJSON(w, http.StatusOK, answer)
}
