package admin

// The REST API and health: what a node says of itself.

import (
	"errors"
	"net/http"
	"time"
)

// Status is what GET /v1/status answers.
type Status struct {
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	// UptimeSeconds since Started.
	UptimeSeconds int64 `json:"uptime_seconds"`
	// Phase of the node: starting, fenced, serving or draining.
	Phase string `json:"phase"`
	// Fence says why nothing that was stored before is served; nil where it is.
	Fence *Fence `json:"fence,omitempty"`
	// NotReady holds the reasons why /readyz answers 503; empty when ready.
	NotReady []string `json:"not_ready"`
	// Listeners that are open.
	Listeners []Listener `json:"listeners"`
	// Config says what was loaded and how the last reload went.
	Config ConfigStatus `json:"config"`
	// Store has an entry for each tier.
	Store []Tier `json:"store"`
	// Cluster is left out where the node is alone.
	Cluster *ClusterStatus `json:"cluster,omitempty"`
}

// Fence is why a node serves nothing that was stored before: it may have missed purges.
type Fence struct {
	Why   string    `json:"why"`
	Since time.Time `json:"since"`
}

// Listener is an open listener.
type Listener struct {
	// Protocol is http, https (TCP), http3 (UDP) or admin.
	Protocol string `json:"protocol"`
	Address  string `json:"address"`
}

// ConfigStatus is the state of the configuration.
type ConfigStatus struct {
	// File that was loaded; "" when the node runs on flags alone.
	File string `json:"file"`
	// Hash of what is in force: nodes with one file have one hash.
	Hash string `json:"hash"`
	// Loaded is when the configuration in force was put in force.
	Loaded time.Time `json:"loaded"`
	// Reloads and Failures count reloads since the start, good and refused.
	Reloads  uint64 `json:"reloads"`
	Failures uint64 `json:"failures"`
	// LastError of the last reload, "" when it went well; the configuration
	// before it is in force then. LastErrorAt is when.
	LastError   string     `json:"last_error,omitempty"`
	LastErrorAt *time.Time `json:"last_error_at,omitempty"`
}

// Tier is the fill of a store tier.
type Tier struct {
	// Name is memory or disk.
	Name string `json:"name"`
	// Path of the directory of a disk tier.
	Path    string `json:"path,omitempty"`
	Objects int64  `json:"objects"`
	Bytes   int64  `json:"bytes"`
	// BytesMax is the budget that Bytes stays under.
	BytesMax int64 `json:"bytes_max"`
	// State of a disk tier: serving, full (no space left) or broken (its device
	// fails); Error is the last failure then.
	State string `json:"state,omitempty"`
	Error string `json:"error,omitempty"`
}

// health answers as long as the process can answer at all.
func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, struct {
		Alive bool `json:"alive"`
	}{true})
}

// ready answers 200 while the node wants traffic, 503 with the reasons while it
// starts or drains.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	reasons := s.src.NotReady()
	status := http.StatusOK
	if len(reasons) > 0 {
		status = http.StatusServiceUnavailable
	}
	writeJSON(w, status, readiness{len(reasons) == 0, reasons})
}

type readiness struct {
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons,omitempty"`
}

// drain answers when readiness has been withdrawn, or is back, with what /readyz
// says then.
func (s *Server) drain(on bool) http.HandlerFunc {
	what := "undrain"
	if on {
		what = "drain"
	}
	return func(w http.ResponseWriter, r *http.Request) {
		c := credentialOf(r)
		if err := s.src.Drain(on); err != nil {
			s.audit.note(c, r, what, http.StatusConflict, err.Error())
			writeProblem(w, http.StatusConflict, err.Error())
			return
		}
		s.audit.note(c, r, what, http.StatusOK, "done")
		reasons := s.src.NotReady()
		writeJSON(w, http.StatusOK, readiness{len(reasons) == 0, reasons})
	}
}

// release lifts the fence.
func (s *Server) release(w http.ResponseWriter, r *http.Request) {
	c := credentialOf(r)
	err := errNoFence
	if s.src.Release != nil {
		err = s.src.Release()
	}
	if err != nil {
		s.audit.note(c, r, "release", http.StatusConflict, err.Error())
		writeProblem(w, http.StatusConflict, err.Error())
		return
	}
	s.audit.note(c, r, "release", http.StatusOK, "done")
	reasons := s.src.NotReady()
	writeJSON(w, http.StatusOK, readiness{len(reasons) == 0, reasons})
}

var errNoFence = errors.New("the node is not fenced")

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	st := s.src.Status()
	st.NotReady = append([]string{}, s.src.NotReady()...)
	st.UptimeSeconds = int64(time.Since(st.Started).Seconds())
	writeJSON(w, http.StatusOK, st)
}

func (s *Server) config(w http.ResponseWriter, _ *http.Request) {
	effective, err := s.src.Config()
	if err != nil {
		s.log.Error("admin: show configuration", "err", err)
		writeProblem(w, http.StatusInternalServerError, "the configuration cannot be shown; the log says why")
		return
	}
	writeJSON(w, http.StatusOK, effective)
}

// locate tells where DNS sends a client.
func (s *Server) locate(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	found, err := s.src.Locate(query.Get("address"), query.Get("name"))
	if err != nil {
		writeProblem(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	writeJSON(w, http.StatusOK, found)
}

// reload answers when the new configuration is in force, or 422 with every
// problem in it while the old one stays.
func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	c := credentialOf(r)
	if err := s.src.Reload(r.Context()); err != nil {
		s.audit.note(c, r, "reload", http.StatusUnprocessableEntity, err.Error())
		writeProblem(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	s.audit.note(c, r, "reload", http.StatusOK, "in force")
	writeJSON(w, http.StatusOK, s.src.Status().Config)
}
