package script

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"image/color"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed pages
var pages embed.FS

// How long what the site serves stays fresh. Pages change and are validated
// often; assets have a hash of their content in their name and never change.
const (
	pageControl  = "public, max-age=30, stale-while-revalidate=300, stale-if-error=86400"
	assetControl = "public, max-age=31536000, immutable"
	iconControl  = "public, max-age=86400"
)

// site is the sample site: files by path, made once.
type site struct{ files map[string]file }

type file struct {
	body    []byte
	kind    string
	control string
	etag    string
	links   []string // Link fields
}

// newSite reads and paints the files, then names assets by their hash.
func newSite() site {
	raw := map[string][]byte{
		"font.ttf":   font(),
		"tide.png":   paint(640, 360, 1, color.NRGBA{0x14, 0x2b, 0x4d, 255}, color.NRGBA{0x9c, 0xd3, 0xe8, 255}),
		"dune.png":   paint(640, 360, 2.4, color.NRGBA{0x8a, 0x3b, 0x12, 255}, color.NRGBA{0xff, 0xd9, 0x9b, 255}),
		"aurora.png": paint(1280, 720, 4.1, color.NRGBA{0x12, 0x1b, 0x3a, 255}, color.NRGBA{0x53, 0xd8, 0xa0, 255}),
	}
	for _, name := range []string{"style.css", "app.js", "map.svg"} {
		raw[name] = page(name)
	}
	s := site{files: map[string]file{
		"/favicon.ico": newFile(icon(), "image/x-icon", iconControl),
		"/robots.txt":  newFile([]byte("User-agent: *\nDisallow: /_origin/\n"), "text/plain; charset=utf-8", iconControl),
	}}
	links := map[string]string{}
	// The style sheet names the font, so that the font gets its name first.
	for _, name := range []string{"font.ttf", "tide.png", "dune.png", "aurora.png", "map.svg", "style.css", "app.js"} {
		body := link(raw[name], links)
		f := newFile(body, kindOf(name), assetControl)
		ext := path.Ext(name)
		links[name] = "/assets/" + strings.TrimSuffix(name, ext) + "." + f.etag[1:13] + ext
		s.files[links[name]] = f
	}
	early := []string{
		"<" + links["style.css"] + ">; rel=preload; as=style",
		"<" + links["font.ttf"] + ">; rel=preload; as=font; crossorigin",
	}
	for _, name := range []string{"index.html", "gallery.html", "about.html", "help.html"} {
		f := newFile(link(page(name), links), "text/html; charset=utf-8", pageControl)
		f.links = early
		s.files["/"+name] = f
	}
	s.files["/"] = s.files["/index.html"]
	return s
}

func newFile(body []byte, kind, control string) file {
	sum := sha256.Sum256(body)
	return file{body: body, kind: kind, control: control, etag: `"` + hex.EncodeToString(sum[:8]) + `"`}
}

func page(name string) []byte {
	body, err := fs.ReadFile(pages, "pages/"+name)
	if err != nil {
		panic("script: embedded file: " + err.Error())
	}
	return body
}

// link replaces {{name}} by the path of that asset.
func link(body []byte, links map[string]string) []byte {
	for name, to := range links {
		body = bytes.ReplaceAll(body, []byte("{{"+name+"}}"), []byte(to))
	}
	return body
}

func kindOf(name string) string {
	switch ext := path.Ext(name); ext {
	case ".ttf":
		return "font/ttf" // not in every system's table
	case ".js":
		return "text/javascript; charset=utf-8"
	default:
		return mime.TypeByExtension(ext)
	}
}

func (s site) serve(w http.ResponseWriter, r *http.Request, path string) {
	switch path {
	case "/time":
		clock(w)
		return
	case "/account":
		account(w, r)
		return
	}
	f, ok := s.files[path]
	if !ok || path == "/help.html" {
		w.Header().Set("Cache-Control", "public, max-age=5")
		http.Error(w, fmt.Sprintf("no such page: %q", r.RequestURI), http.StatusNotFound)
		return
	}
	f.send(w, r)
}

func (s site) help(w http.ResponseWriter, r *http.Request) {
	s.files["/help.html"].send(w, r)
}

func (f file) send(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "GET and HEAD only", http.StatusMethodNotAllowed)
		return
	}
	h := w.Header()
	for _, l := range f.links {
		h.Add("Link", l)
	}
	h.Set("Content-Type", f.kind)
	h.Set("Cache-Control", f.control)
	h.Set("ETag", f.etag)
	http.ServeContent(w, r, "", published, bytes.NewReader(f.body))
}

// clock shows when the origin made it: a page whose copies can be told apart.
func clock(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "public, max-age=5, stale-while-revalidate=30")
	fmt.Fprintf(w, "made at the origin at %s\n", time.Now().UTC().Format(time.RFC3339Nano))
}

// account is for one visitor only and must never be seen by another.
func account(w http.ResponseWriter, r *http.Request) {
	visitor := "stranger"
	if c, err := r.Cookie("visitor"); err == nil {
		visitor = c.Value
	} else {
		http.SetCookie(w, &http.Cookie{Name: "visitor", Value: hex.EncodeToString([]byte(r.RemoteAddr)), Path: "/", HttpOnly: true})
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "private, max-age=60")
	fmt.Fprintf(w, "hello, %s\n", visitor)
}
