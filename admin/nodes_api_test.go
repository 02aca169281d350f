package admin

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestNodes(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	n := &node{nodes: NodeList{Clustered: true, Nodes: []Node{{
		Name: "a", Self: true, Status: "alive", Since: at, Phase: "serving", Address: "10.0.0.1:7946", Public: []string{"h3://192.0.2.1:443"},
		Place: &NodePlace{50, 8}, Heard: &at, FailedProbes: []string{"https"},
	}}, Out: []NodeFact{{Key: "site/fra", By: "ops", Node: "a", Time: at}}}}
	s, token, _ := newTestServer(t, n)
	auth := "Bearer " + token
	if w := s.answer(ask{path: "/v1/nodes", authorization: auth}); w.Code != 200 || !strings.Contains(w.Body.String(), "10.0.0.1:7946") {
		t.Errorf("list: %d %s", w.Code, w.Body)
	}
	post := func(body string) (int, string) {
		w := s.answer(ask{method: "POST", path: "/v1/nodes", authorization: auth, body: body})
		return w.Code, w.Body.String()
	}
	if code, text := post(`{"action":"out","target":"a"}`); code != 200 || len(n.changes) != 1 || n.changes[0].Target != "a" || n.changes[0].By == "" {
		t.Errorf("out: %d %s %+v", code, text, n.changes)
	}
	for _, body := range []string{``, `{"action":"out","target":"a","more":1}`, `{"action":"out"} {}`, `{"action":"` + strings.Repeat("x", nodeChangeBytesMax) + `"}`} {
		if code, _ := post(body); code != 400 {
			t.Errorf("%.40q: %d", body, code)
		}
	}
	n.changeErr = errors.New("nobody has that name")
	if code, text := post(`{"action":"gone","target":"z"}`); code != 409 || !strings.Contains(text, "nobody has that name") {
		t.Errorf("gone: %d %s", code, text)
	}
	for _, method := range []string{"GET", "POST"} {
		if w := s.answer(ask{method: method, path: "/v1/nodes"}); w.Code != 401 {
			t.Errorf("%s without a token: %d", method, w.Code)
		}
	}
}

// A token that another node has revoked is refused here, also after a restart.
func TestRevokedElsewhere(t *testing.T) {
	s, token, _ := newTestServer(t, &node{})
	auth := "Bearer " + token
	if w := s.answer(ask{path: "/v1/status", authorization: auth}); w.Code != 200 {
		t.Fatalf("before: %d", w.Code)
	}
	hash := s.live.Load().credentials[0].hash
	if err := s.Revoke(hex.EncodeToString(hash[:]), "made", "b"); err != nil {
		t.Fatal(err)
	}
	if w := s.answer(ask{path: "/v1/status", authorization: auth}); w.Code != 401 {
		t.Errorf("after: %d", w.Code)
	}
	again, err := openRevoked(s.src.Data)
	if err != nil {
		t.Fatal(err)
	}
	if _, is := again.at(hash); !is {
		t.Error("it is not kept")
	}
	for _, wrong := range []string{"", "zz", strings.Repeat("a", 63), strings.Repeat("a", 70) + "x"} {
		if err := s.Revoke(wrong, "x", "b"); err == nil {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}
