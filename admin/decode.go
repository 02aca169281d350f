package admin

// The JSON of a purge, strictly: what is not known, said twice or of another
// kind is refused with its place.

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// fieldErrorsMax bounds what one answer tells.
const fieldErrorsMax = 20

// errSyntax is for what is not JSON at all.
var errSyntax = errors.New("the body is not one JSON object")

// purgeBody is what POST /v1/purges takes.
type purgeBody struct {
	PurgeRequest
	dryRun bool
	hosts  []string // of the targets, one each; of groups the one of all
	places []int    // of the targets in the list as sent, which may name one twice
	kinds  []string // that were named
	errs   FieldErrors
	more   int // errors beyond fieldErrorsMax
}

// decodePurge reads a purge. It fails with an error that wraps errSyntax, or
// with FieldErrors.
func decodePurge(raw []byte) (*purgeBody, error) {
	p := &purgeBody{}
	if err := eachField(raw, p.field); err != nil {
		return nil, err
	}
	switch {
	case len(p.kinds) == 0 && len(p.errs) == 0:
		p.fail("", "names nothing to purge: give one of urls, prefixes, hosts, groups and all")
	case len(p.kinds) > 1:
		p.fail(p.kinds[1], "is a second kind beside "+p.kinds[0]+": one purge has one kind")
	}
	if p.more > 0 {
		p.errs = append(p.errs, FieldError{"", fmt.Sprintf("and %d more", p.more)})
	}
	if len(p.errs) > 0 {
		return nil, p.errs
	}
	p.Fingerprint = p.fingerprint()
	return p, nil
}

func (p *purgeBody) fail(field, detail string) {
	if len(p.errs) == fieldErrorsMax {
		p.more++
		return
	}
	p.errs = append(p.errs, FieldError{field, detail})
}

// field reads one field of the body.
func (p *purgeBody) field(name string, raw json.RawMessage, twice bool) {
	if twice {
		p.fail(name, "is there twice")
		return
	}
	switch name {
	case "urls":
		p.targets(name, PurgeURL, raw, PurgeURLsMax, canonicalURL)
	case "prefixes":
		p.targets(name, PurgePrefix, raw, PurgePrefixesMax, canonicalPrefix)
	case "hosts":
		p.targets(name, PurgeHost, raw, PurgeHostsMax, func(raw string) (string, string, string) {
			host, problem := canonicalHost(raw)
			return host, host, problem
		})
	case "groups":
		p.groups(raw)
	case "all":
		p.kinds, p.Kind = append(p.kinds, name), PurgeAll
		if string(raw) != "true" {
			p.fail(name, "is true or left out")
		}
	case "mode":
		mode, ok := stringOf(raw)
		if p.Soft = mode == "soft"; !ok || mode != "soft" && mode != "hard" {
			p.fail(name, "is hard (the default) or soft")
		}
	case "dry_run":
		if p.dryRun = string(raw) == "true"; !p.dryRun && string(raw) != "false" {
			p.fail(name, "is true or false")
		}
	case "reason":
		var ok bool
		if p.Reason, ok = stringOf(raw); !ok || len(p.Reason) > purgeReasonBytesMax {
			p.fail(name, fmt.Sprintf("is a text of up to %d bytes", purgeReasonBytesMax))
		}
	case "regex", "regexp", "regexes", "pattern", "patterns", "expression":
		p.fail(name, "regular expressions are refused: what they cost has no bound; use prefixes, or groups that your origin names")
	default:
		p.fail(fmt.Sprintf("%.40s", name), "is not known: there are urls, prefixes, hosts, groups, all, mode, dry_run and reason")
	}
}

// targets reads a list of at most max targets.
func (p *purgeBody) targets(field string, kind PurgeKind, raw json.RawMessage, max int, canonical func(string) (target, host, problem string)) {
	p.kinds = append(p.kinds, strings.SplitN(field, ".", 2)[0])
	var list []json.RawMessage
	switch err := json.Unmarshal(raw, &list); {
	case err != nil || list == nil:
		p.fail(field, "is a list of texts")
		return
	case len(list) == 0:
		p.fail(field, "is empty: name at least one, or leave the field out")
		return
	case len(list) > max:
		p.fail(field, fmt.Sprintf("has %d entries; at most %d are taken at once", len(list), max))
		return
	}
	p.Kind = kind
	p.Targets, p.hosts, p.places = make([]string, 0, len(list)), nil, nil
	seen := make(map[string]bool, len(list))
	for i, element := range list {
		at := fmt.Sprintf("%s[%d]", field, i)
		text, ok := stringOf(element)
		if !ok {
			p.fail(at, "is not a text")
			continue
		}
		target, host, problem := canonical(text)
		if problem != "" {
			p.fail(at, problem)
			continue
		}
		if !seen[target] {
			seen[target] = true
			p.Targets, p.hosts, p.places = append(p.Targets, target), append(p.hosts, host), append(p.places, i)
		}
	}
}

func (p *purgeBody) groups(raw json.RawMessage) {
	var host string
	missing := map[string]string{"groups.host": "is missing: a group belongs to its host", "groups.names": "is missing"}
	err := eachField(raw, func(name string, raw json.RawMessage, twice bool) {
		at := fmt.Sprintf("groups.%.40s", name)
		delete(missing, at)
		switch {
		case twice:
			p.fail(at, "is there twice")
		case name == "host":
			text, ok := stringOf(raw)
			problem := "is not a text"
			if ok {
				host, problem = canonicalHost(text)
			}
			if problem != "" {
				p.fail(at, problem)
			}
		case name == "names":
			p.targets(at, PurgeGroup, raw, PurgeGroupsMax, func(raw string) (string, string, string) { return raw, "", groupName(raw) })
		default:
			p.fail(at, "is not known: there are host and names")
		}
	})
	if !slices.Contains(p.kinds, "groups") {
		p.kinds = append(p.kinds, "groups")
	}
	if err != nil {
		p.fail("groups", `is an object such as {"host": "www.example.com", "names": ["article-7"]}`)
		return
	}
	for _, at := range []string{"groups.host", "groups.names"} {
		if missing[at] != "" {
			p.fail(at, missing[at])
		}
	}
	p.Host, p.hosts = host, []string{host}
}

// at names the field of a target as the client sent it.
func (p *purgeBody) at(field string, target int) string {
	if target < len(p.places) {
		return fmt.Sprintf("%s[%d]", field, p.places[target])
	}
	return field
}

// asSent makes fields of the request as purged, such as urls[3], those of the
// request as sent.
func (p *purgeBody) asSent(fields FieldErrors) FieldErrors {
	sent := slices.Clone(fields)
	for i, f := range sent {
		field, index, ok := strings.Cut(strings.TrimSuffix(f.Field, "]"), "[")
		if target, err := strconv.Atoi(index); ok && err == nil && target >= 0 {
			sent[i].Field = p.at(field, target)
		}
	}
	return sent
}

// fingerprint hashes what the purge is, not who asks.
func (p *purgeBody) fingerprint() [32]byte {
	b, err := json.Marshal([]any{p.Kind, p.Host, p.Targets, p.Soft, p.Reason})
	if err != nil {
		panic("admin: texts that cannot be JSON: " + err.Error()) // they came from JSON
	}
	return sha256.Sum256(b)
}

// eachField hands over the fields of one JSON object in order. encoding/json
// would take names in any case and the last of those said twice.
func eachField(raw []byte, field func(name string, raw json.RawMessage, twice bool)) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errSyntax
	}
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		var value json.RawMessage
		if err == nil && ok {
			err = d.Decode(&value)
		}
		if err != nil || !ok {
			return fmt.Errorf("%w: %w", errSyntax, err)
		}
		if len(seen) < fieldErrorsMax {
			field(name, value, seen[name])
			seen[name] = true
		}
	}
	if _, err := d.Token(); err != nil { // the brace
		return fmt.Errorf("%w: %w", errSyntax, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("%w: something follows it", errSyntax)
	}
	return nil
}

func stringOf(raw json.RawMessage) (text string, ok bool) {
	ok = len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &text) == nil
	return text, ok
}
