package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// countingOrigin answers each request with another number.
func countingOrigin(t *testing.T) *sampleOrigin {
	var fetches atomic.Int64
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=36000, stale-if-error=36000")
		w.Header().Set("ETag", `"always"`)
		fmt.Fprint(w, fetches.Add(1))
	}))
	t.Cleanup(behind.Close)
	return &sampleOrigin{url: behind.URL}
}

// fetch returns the number of the fetch that the node's answer is of, and whether
// it came from its store.
func (n *node) fetch(t *testing.T, path string) (number int, hit bool) {
	t.Helper()
	resp, err := http.Get("http://" + n.http + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s: %s %v", path, resp.Status, err)
	}
	if number, err = strconv.Atoi(string(body)); err != nil {
		t.Fatal(err)
	}
	return number, strings.HasPrefix(resp.Header.Get("Cache-Status"), "edge; hit")
}

// purge asks for a purge and returns whether it was acknowledged.
func (n *node) purge(t *testing.T, body string) bool {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(n.data, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest("POST", "http://"+n.admin+"/v1/purges", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	var made struct{ ID, State string }
	return resp.StatusCode == 202 && json.NewDecoder(resp.Body).Decode(&made) == nil && made.ID != ""
}

// written waits until so many objects are on disk and written out.
func (n *node) written(t *testing.T, objects int) {
	t.Helper()
	backlog := regexp.MustCompile(`(?m)^edge_store_disk_backlog_bytes\{.*\} 0$`)
	eventually(t, "objects are on disk", func() bool { return diskObjects(t, n) >= objects && backlog.MatchString(n.metrics(t)) })
}

// A node that is killed right after it has answered does not serve again what was
// purged, nor lose what is newer than the purge or was not named.
func TestPurgeSurvivesKill(t *testing.T) {
	n := startEdge(t, countingOrigin(t))
	keep := func(path string) (number int) {
		for range 3 {
			number, _ = n.fetch(t, path)
		}
		return number
	}
	other := keep("/other/1")
	for round, body := range []string{
		`{"urls": ["http://HOST/dir/1"]}`,
		`{"prefixes": ["HOST/dir"]}`,
		`{"urls": ["http://HOST/dir/1"]}`,
	} {
		old := keep("/dir/1")
		n.written(t, 2)
		if !n.purge(t, strings.ReplaceAll(body, "HOST", n.http)) {
			t.Fatal("not acknowledged")
		}
		n.kill()
		n.start(t)
		if number, hit := n.fetch(t, "/dir/1"); number == old || hit {
			t.Errorf("round %d: fetch %d is served (hit %v), and %d was purged", round, number, hit, old)
		}
		if number, hit := n.fetch(t, "/other/1"); number != other || !hit {
			t.Errorf("round %d: fetch %d (hit %v) of what was not purged, not %d", round, number, hit, other)
		}
		newer := keep("/dir/1")
		n.written(t, 2)
		n.kill()
		n.start(t)
		if number, hit := n.fetch(t, "/dir/1"); number != newer || !hit {
			t.Errorf("round %d: fetch %d (hit %v), not %d, which is newer than the purge", round, number, hit, newer)
		}
	}
}

// A node that is killed in a storm of purges keeps each one that it has answered.
func TestPurgeStormSurvivesKill(t *testing.T) {
	const objects, workers = 400, 8
	n := startEdge(t, countingOrigin(t))
	path := func(i int) string { return fmt.Sprintf("/%d", i) }
	before := make([]int, objects)
	for i := range before {
		for range 2 {
			before[i], _ = n.fetch(t, path(i))
		}
	}
	n.written(t, objects*9/10)
	acknowledged := make([]bool, objects)
	var next, done atomic.Int64
	enough := make(chan struct{})
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := int(next.Add(2)); i < objects; i = int(next.Add(2)) { // every other one
				if !n.purge(t, fmt.Sprintf(`{"urls": ["http://%s%s"]}`, n.http, path(i))) {
					return
				}
				acknowledged[i] = true
				if done.Add(1) == objects/8 {
					close(enough)
				}
			}
		})
	}
	select {
	case <-enough:
	case <-time.After(2 * patience):
		t.Errorf("only %d purges are acknowledged", done.Load())
	}
	n.kill()
	wg.Wait()
	n.start(t)
	kept := 0
	for i := range before {
		number, hit := n.fetch(t, path(i))
		if acknowledged[i] && (number == before[i] || hit) {
			t.Errorf("%s is back, and its purge was acknowledged", path(i))
		}
		if hit {
			kept++
		}
	}
	t.Logf("%d purges acknowledged before the kill, %d objects kept", done.Load(), kept)
	if kept < objects/3 {
		t.Errorf("only %d of %d that were not purged are there", kept, objects)
	}
}

// The commands in docs/purge.md do what it says, as they stand.
func TestPurgeDocs(t *testing.T) {
	need(t, "curl")
	text, err := os.ReadFile("../docs/purge.md")
	if err != nil {
		t.Fatal(err)
	}
	n := newNode(t)
	dir := t.TempDir()
	n.data = filepath.Join(dir, "data")
	n.args = []string{"serve", "--origin", countingOrigin(t).url, "--http", n.http, "--https", "off", "--admin", n.admin, "--data", n.data}
	n.start(t)
	var answers []string
	for _, block := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		cmd := exec.Command("sh", "-c", strings.ReplaceAll(block[1], "127.0.0.1:8081", n.admin))
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", block[1], err, out)
		}
		answers = append(answers, string(out))
	}
	wants := []string{`"state": "applied",`, `"mode": "soft",`, `"dry_run": true,`, `"reason": "new logo",`}
	if len(answers) != len(wants) {
		t.Fatalf("%d commands", len(answers))
	}
	for i, want := range wants {
		if !strings.Contains(answers[i], want) {
			t.Errorf("%s, want %s", answers[i], want)
		}
	}
	shown := regexp.MustCompile("(?s)```json\n(.*?)\n```").FindStringSubmatch(string(text))
	var made struct{ ID string }
	if err := json.Unmarshal([]byte(answers[0]), &made); err != nil || strings.ReplaceAll(shown[1], "ID", made.ID) != strings.TrimSpace(answers[0]) {
		t.Errorf("%s is shown, %s is answered", shown[1], answers[0])
	}
}

// On a full disk purges are refused as not durable, and made again when there is
// room; what was acknowledged holds through a kill.
func TestPurgeOnFullDisk(t *testing.T) {
	small := smallDisk(t, 4)
	t.Setenv("E2E_ORIGIN", countingOrigin(t).url)
	t.Setenv("E2E_DISK", t.TempDir())
	n := newNode(t)
	n.data = filepath.Join(small, "data")
	file := filepath.Join(t.TempDir(), "edge.yaml")
	writeFile(t, file, n.fill(`
server: {http: ["{http}"], access_log: {format: "off"}}
admin: {listen: "{admin}"}
data: "{data}"
store: {disk: [{path: "${E2E_DISK}", bytes: 64MiB}]}
origins: {site: {url: "${E2E_ORIGIN}"}}
hosts: [{names: ["*"], origin: site}]
`))
	n.args = []string{"serve", "--config", file}
	n.start(t)
	var before [2]int
	for range 3 {
		for i := range before {
			before[i], _ = n.fetch(t, fmt.Sprintf("/%d", i))
		}
	}
	n.written(t, 2)
	if !n.purge(t, `{"hosts": ["a.example"]}`) {
		t.Fatal("not acknowledged")
	}
	ballast := filepath.Join(small, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 8<<20), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	// What is left of the last page takes some.
	body := fmt.Sprintf(`{"urls": ["http://%s/0"]}`, n.http)
	acknowledged := 0
	for n.purge(t, body) {
		if acknowledged++; acknowledged > 1000 {
			t.Fatal("a full disk takes all")
		}
	}
	if _, hit := n.fetch(t, "/0"); hit {
		t.Error("not durable, and not applied either")
	}
	if n.purge(t, body) || metric(t, n, "edge_purge_not_durable_total") != 2 {
		t.Error("not counted")
	}
	// Nor does a full disk keep the node from starting.
	n.kill()
	if err := os.Remove(filepath.Join(n.data, "admin.addr")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(small, "more"), make([]byte, 1<<20), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	n.start(t)
	n.says(t, "give them --admin") // else it found room, and the test shows nothing
	// What was fetched since may be there still: its purge was refused.
	if number, hit := n.fetch(t, "/0"); acknowledged > 0 && number == before[0] {
		t.Errorf("fetch %d is served (hit %v) on a full disk, and was purged", number, hit)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if !n.purge(t, body) || !n.purge(t, `{"hosts": ["b.example"]}`) {
		t.Error("there is room, and purges are refused")
	}
	n.kill()
	n.start(t)
	if number, hit := n.fetch(t, "/0"); number == before[0] || hit {
		t.Errorf("fetch %d is served (hit %v), and was purged", number, hit)
	}
	if number, hit := n.fetch(t, "/1"); number != before[1] || !hit {
		t.Errorf("fetch %d (hit %v) of what was not purged, not %d", number, hit, before[1])
	}
	if lost := metric(t, n, "edge_purge_log_lost_total"); lost != 0 {
		t.Error("the log was lost")
	}
}
