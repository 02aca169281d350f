package h3

// fits.go keeps to what the client's SETTINGS_MAX_FIELD_SECTION_SIZE allows: a longer
// header it would refuse (RFC 9114 4.2.2).

import (
	"errors"
	"net/http"

	"edgecdn/cache"
)

const (
	// lineOverhead counts for each field line (RFC 9114 4.2.2).
	lineOverhead = 32
	// mostPerByte is how much one encoded byte can stand for: the longest line of the
	// static table has two. So most sections need not be looked through.
	mostPerByte = 64
)

// errUnsayable is said where the client takes no header at all.
var errUnsayable = errors.New("h3: the client takes no header that says anything")

// allowSections notes what the client has said of the length of field sections.
func (c *conn) allowSections(most uint64) { c.sectionMax.Store(most + 1) }

// fits says whether the client takes the field section of the frame begun at at.
func (r *request) fits(at int) bool {
	said := r.conn.sectionMax.Load() // 0: nothing yet, which means no bound
	encoded := r.out[at+headersHead:]
	if said == 0 || uint64(len(encoded))*mostPerByte < said {
		return true
	}
	size, s := uint64(0), section{rest: encoded}
	if s.prefix() != nil {
		return false
	}
	for len(s.rest) > 0 {
		name, value, err := s.next()
		if err != nil {
			return false // never of what we encode
		}
		size += uint64(len(name) + len(value) + lineOverhead)
	}
	return size < said
}

// curtail puts a short 500 in the place of a final header that does not fit, and has
// nothing follow it.
func (r *request) curtail(at int) error {
	if r.fits(at) {
		return nil
	}
	r.conn.engine.stats.SectionsTooLong.Add(1)
	r.curt, r.x.Status = true, http.StatusInternalServerError
	r.out = r.out[:at]
	r.startHeaders()
	r.out = Encode(r.out, r.x.Status, []cache.Field{{Name: "content-length", Value: "0"}})
	if !r.fits(at) {
		r.out = r.out[:at]
		return errUnsayable
	}
	return nil
}
