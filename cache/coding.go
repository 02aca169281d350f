package cache

// coding.go reads Accept-Encoding (RFC 9110 12.5.3): which of the codings that we
// know a client takes, and which of those that there are it likes best. Requests
// for the store go out with the former, so that what comes back fits everybody in
// the same class.

import (
	"strings"

	"edgecdn/route"
)

const acceptEncoding = "accept-encoding"

// accepted is a set of codings, bit i for route.Codings[i].
type accepted uint8

// ourOrder numbers the codings as we like them, for clients to whom they are
// equal: br makes the least bytes, zstd is the cheapest to undo.
var ourOrder = [...]int{0, 2, 1}

// weights are what a client says of the codings, in thousandths; 0 is a refusal.
type weights struct {
	of       [len(route.Codings)]int16
	identity int16 // unsaid where the client does not speak of it
}

// unsaid is the weight of what a client does not name.
const unsaid = -1

// codingWeights reads all Accept-Encoding lines. "*" speaks for what is not named;
// of several weights of one coding the highest counts.
func codingWeights(fields []Field) weights {
	w := weights{identity: unsaid}
	for i := range w.of {
		w.of[i] = unsaid
	}
	others := int16(unsaid)
	for i := range fields {
		if fields[i].Name != acceptEncoding {
			continue
		}
		for rest := fields[i].Value; rest != ""; {
			var coding, params string
			coding, params, rest = nextCoding(rest)
			if of := w.named(coding, &others); of != nil {
				*of = max(*of, quality(params))
			}
		}
	}
	for i := range w.of {
		if w.of[i] == unsaid {
			w.of[i] = max(others, 0)
		}
	}
	if w.identity == unsaid && others == 0 {
		w.identity = 0
	}
	return w
}

// nextCoding cuts the first member off a list: a name and what follows it.
func nextCoding(list string) (coding, params, rest string) {
	i := 0
	for i < len(list) && (list[i] == ' ' || list[i] == '\t' || list[i] == ',') {
		i++
	}
	from := i
	for i < len(list) && list[i] != ',' && list[i] != ';' && list[i] != ' ' && list[i] != '\t' {
		i++
	}
	coding = list[from:i]
	from = i
	for i < len(list) && list[i] != ',' {
		i++
	}
	return coding, list[from:i], list[i:]
}

// named returns the weight that a name speaks of, nil for what we do not know.
func (w *weights) named(coding string, others *int16) *int16 {
	for i, known := range route.Codings {
		if len(coding) == len(known) && (coding == known || strings.EqualFold(coding, known)) {
			return &w.of[i]
		}
	}
	switch {
	case coding == "*":
		return others
	case strings.EqualFold(coding, "identity"):
		return &w.identity
	case strings.EqualFold(coding, "x-gzip"): // RFC 9110 8.4.1.3
		return w.named("gzip", others)
	}
	return nil
}

// quality returns the weight among what follows a name, 1000 where there is none or
// what there is is no qvalue (RFC 9110 12.4.2). What makes no list member of it has
// no say.
func quality(params string) int16 {
	params = strings.TrimLeft(params, " \t")
	if params != "" && params[0] != ';' {
		return unsaid
	}
	for params != "" {
		var param string
		param, params, _ = strings.Cut(params, ";")
		param = strings.Trim(param, " \t")
		if len(param) >= 2 && param[0]|0x20 == 'q' && param[1] == '=' {
			return qvalue(param[2:])
		}
	}
	return 1000
}

// qvalue reads 0 to 1 with any number of decimals. What is more than 0 does not
// become 0 by being rounded.
func qvalue(s string) int16 {
	if s == "" || s[0] != '0' || len(s) > 1 && s[1] != '.' {
		return 1000
	}
	q, unit, more := int16(0), int16(100), false
	for i := 2; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 1000
		}
		more = more || s[i] != '0'
		q += int16(s[i]-'0') * unit
		unit /= 10
	}
	if q == 0 && more {
		return 1
	}
	return q
}

// accepted returns the codings that are not refused.
func (w *weights) accepted() (set accepted) {
	for i, q := range w.of {
		if q > 0 {
			set |= 1 << i
		}
	}
	return set
}

// best returns the coding among some that the client likes best and at least as
// much as none at all; -1 where there is none.
func (w *weights) best(among accepted) int {
	best, most := -1, max(w.identity, 1)
	for _, i := range ourOrder {
		if q := w.of[i]; among&(1<<i) != 0 && q >= most && (best < 0 || q > w.of[best]) {
			best = i
		}
	}
	return best
}

// acceptedCodings returns the codings that a request takes.
func acceptedCodings(fields []Field) accepted {
	w := codingWeights(fields)
	return w.accepted()
}

// codingOf returns the coding of a response as a set of one; none for identity,
// and for what we do not know: several at once among them.
func codingOf(fields []Field) accepted {
	values := valuesOf(fields, "content-encoding")
	if len(values) != 1 {
		return 0
	}
	w, others := weights{}, int16(0)
	if of := w.named(strings.Trim(values[0], " \t"), &others); of != nil {
		*of = 1
	}
	return w.accepted()
}

// append writes the set as a field value: "br, gzip", or "identity".
func (a accepted) append(b []byte) []byte {
	if a == 0 {
		return append(b, "identity"...)
	}
	first := true
	for i, coding := range route.Codings {
		if a&(1<<i) == 0 {
			continue
		}
		if !first {
			b = append(b, ", "...)
		}
		first = false
		b = append(b, coding...)
	}
	return b
}
