package admin

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// textsFake keeps texts.
type textsFake struct{ all []TextRecord }

func (f *textsFake) Put(r TextRecord) error {
	if !strings.HasPrefix(r.Name, "_") {
		return errors.New("no underscore")
	}
	f.all = append(f.all, r)
	return nil
}

func (f *textsFake) Delete(name string) (bool, error) {
	if name == "_broken.example.com" {
		return false, errors.New("broken")
	}
	n := len(f.all)
	f.all = slices.DeleteFunc(f.all, func(r TextRecord) bool { return r.Name == name })
	return len(f.all) < n, nil
}

func (f *textsFake) All() []TextRecord { return f.all }

func TestTexts(t *testing.T) {
	texts := new(textsFake)
	s, token, _ := newTestServer(t, &node{texts: texts})
	auth := "Bearer " + token
	const path = "/v1/dns/txt/_acme-challenge.www.example.com"
	for _, tt := range []struct {
		method, path, body string
		code               int
		want               string
	}{
		{"GET", "/v1/dns/txt", "", 200, `"records": []`},
		{"PUT", path, `{"values": ["one", "two"], "lifetime": "1h"}`, 200, `"_acme-challenge.www.example.com"`},
		{"GET", "/v1/dns/txt", "", 200, `"two"`},
		{"PUT", "/v1/dns/txt/www.example.com", `{"values": ["one"]}`, 422, "no underscore"},
		{"PUT", path, `{"values": ["one"], "lifetime": "soon"}`, 422, "no duration"},
		{"PUT", path, `{"value": "one"}`, 422, "unknown field"},
		{"PUT", path, `{"values": ["one"]} {}`, 422, "the body is not"},
		{"PUT", path, `{"values": ["` + strings.Repeat("x", textBodyMax) + `"]}`, 422, "the body cannot be read"},
		{"PUT", path, "", 422, "the body is not"},
		{"DELETE", path, "", 200, `"records": []`},
		{"DELETE", path, "", 404, "no TXT records"},
		{"DELETE", "/v1/dns/txt/_broken.example.com", "", 422, "broken"},
	} {
		w := s.answer(ask{method: tt.method, path: tt.path, body: tt.body, authorization: auth})
		if w.Code != tt.code || !strings.Contains(w.Body.String(), tt.want) {
			t.Errorf("%s %s %.60s: %d %s, want %d %s", tt.method, tt.path, tt.body, w.Code, w.Body, tt.code, tt.want)
		}
		if tt.code == 200 && tt.method == "PUT" {
			if life := time.Until(texts.all[0].Expires); life < 59*time.Minute || life > time.Hour {
				t.Errorf("lasts %v", life)
			}
		}
	}
	without, token, _ := newTestServer(t, &node{})
	for _, tt := range []struct{ method, path string }{{"GET", "/v1/dns/txt"}, {"PUT", path}, {"DELETE", path}} {
		if w := without.answer(ask{method: tt.method, path: tt.path, authorization: "Bearer " + token}); w.Code != 422 || !strings.Contains(w.Body.String(), "does not answer DNS") {
			t.Errorf("%s without DNS: %d %s", tt.method, w.Code, w.Body)
		}
	}
}
