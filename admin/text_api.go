package admin

// TXT records of a while over the REST API: the challenges by which authorities
// prove that a name is ours.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Texts is what keeps TXT records, filled in by main.
type Texts interface {
	// Put replaces the records of a name until they expire. An error says what is
	// wrong with them.
	Put(TextRecord) error
	// Delete takes the records of a name away, and tells whether there were any.
	Delete(name string) (bool, error)
	// All lists them by name.
	All() []TextRecord
}

// TextRecord is the TXT records of one name.
type TextRecord struct {
	Name    string    `json:"name"`
	Values  []string  `json:"values"`
	Expires time.Time `json:"expires"`
}

// TextList is what GET /v1/dns/txt answers.
type TextList struct {
	Records []TextRecord `json:"records"`
}

const (
	textBodyMax    = 16 << 10
	textLifeUsual  = 24 * time.Hour
	noTextsProblem = "this node does not answer DNS and is in no cluster that does: set dns.listen and dns.zones, or ask one that does"
)

// textBody is what PUT takes.
type textBody struct {
	Values   []string `json:"values"`
	Lifetime string   `json:"lifetime"`
}

// texts returns what keeps them, or answers that nothing does.
func (s *Server) texts(w http.ResponseWriter) Texts {
	texts := s.src.Texts()
	if texts == nil {
		writeProblem(w, http.StatusUnprocessableEntity, noTextsProblem)
	}
	return texts
}

func (s *Server) listTexts(w http.ResponseWriter, _ *http.Request) {
	if texts := s.texts(w); texts != nil {
		writeJSON(w, http.StatusOK, TextList{append([]TextRecord{}, texts.All()...)})
	}
}

func (s *Server) putText(w http.ResponseWriter, r *http.Request) {
	texts := s.texts(w)
	if texts == nil {
		return
	}
	record, err := readText(w, r)
	if err == nil {
		err = texts.Put(record)
	}
	what := "TXT of " + record.Name
	if err != nil {
		s.audit.note(credentialOf(r), r, what, http.StatusUnprocessableEntity, err.Error())
		writeProblem(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	s.audit.note(credentialOf(r), r, what, http.StatusOK, fmt.Sprintf("%d values until %s", len(record.Values), record.Expires.Format(time.RFC3339)))
	writeJSON(w, http.StatusOK, record)
}

// readText reads a record of a request, strictly.
func readText(w http.ResponseWriter, r *http.Request) (TextRecord, error) {
	record := TextRecord{Name: r.PathValue("name")}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, textBodyMax))
	if err != nil {
		return record, fmt.Errorf("the body cannot be read: %w", err)
	}
	var body textBody
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&body); err != nil || len(bytes.TrimSpace(raw[decoder.InputOffset():])) > 0 {
		return record, fmt.Errorf(`the body is not {"values": ["..."], "lifetime": "1h"}: %s`, strings.TrimPrefix(fmt.Sprint(err), "json: "))
	}
	life := textLifeUsual
	if body.Lifetime != "" {
		if life, err = time.ParseDuration(body.Lifetime); err != nil {
			return record, fmt.Errorf("lifetime: %q is no duration such as 1h", body.Lifetime)
		}
	}
	record.Values, record.Expires = body.Values, time.Now().Add(life).UTC().Truncate(time.Second)
	return record, nil
}

func (s *Server) deleteText(w http.ResponseWriter, r *http.Request) {
	texts := s.texts(w)
	if texts == nil {
		return
	}
	name := r.PathValue("name")
	there, err := texts.Delete(name)
	switch {
	case err != nil:
		s.audit.note(credentialOf(r), r, "delete the TXT of "+name, http.StatusUnprocessableEntity, err.Error())
		writeProblem(w, http.StatusUnprocessableEntity, err.Error())
	case !there:
		writeProblem(w, http.StatusNotFound, fmt.Sprintf("%q has no TXT records that were made here", name))
	default:
		s.audit.note(credentialOf(r), r, "delete the TXT of "+name, http.StatusOK, "deleted")
		s.listTexts(w, r)
	}
}
