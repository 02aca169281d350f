package admin

// The cluster over the REST API: which nodes there are, and what operators say of them.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// NodeList is what GET /v1/nodes answers.
type NodeList struct {
	// Clustered is false where the node is alone.
	Clustered bool   `json:"clustered"`
	Nodes     []Node `json:"nodes"`
	// Out and Gone are what operators have said.
	Out  []NodeFact `json:"out,omitempty"`
	Gone []NodeFact `json:"gone,omitempty"`
}

// Node is a node as the one that was asked sees it.
type Node struct {
	Name string `json:"name"`
	Self bool   `json:"self"`
	Site string `json:"site,omitempty"`
	// Status is alive, suspect, dead or left; Since is when it began.
	Status string    `json:"status"`
	Since  time.Time `json:"since"`
	// Phase is joining, fenced, serving or draining.
	Phase   string     `json:"phase"`
	Address string     `json:"address"`
	Public  []string   `json:"public"`
	Place   *NodePlace `json:"place,omitempty"`
	Version string     `json:"version,omitempty"`
	Boot    uint64     `json:"boot"`
	Weight  int        `json:"weight"`
	// Stream says whether there is a connection to it that is in use.
	Stream bool       `json:"stream"`
	Heard  *time.Time `json:"heard,omitempty"`
	Out    bool       `json:"out"`
	Gone   bool       `json:"gone"`
	// Load in units of Capacity.
	Load     float64 `json:"load"`
	Capacity float64 `json:"capacity"`
	Cold     bool    `json:"cold"`
	// SkewSeconds is by how much its clock is ahead.
	SkewSeconds  float64  `json:"skew_seconds"`
	FailedProbes []string `json:"failed_probes,omitempty"`
}

// NodePlace is on the globe, in degrees.
type NodePlace struct {
	Lat float64 `json:"lat"`
	Lon float64 `json:"lon"`
}

// NodeFact is something that an operator said: By on Node at Time.
type NodeFact struct {
	Key  string    `json:"key"`
	By   string    `json:"by"`
	Node string    `json:"node"`
	Time time.Time `json:"time"`
}

// NodeChange is what POST /v1/nodes takes.
type NodeChange struct {
	// Action is out, in or gone.
	Action string `json:"action"`
	// Target is a node or, for out and in, a site.
	Target string `json:"target,omitempty"`
	// By is the name of the token, filled in here.
	By string `json:"-"`
}

// ClusterStatus is the cluster in GET /v1/status.
type ClusterStatus struct {
	Phase   string `json:"phase"`
	Address string `json:"address"`
	// Members that are known, this node too, and what they are.
	Members int      `json:"members"`
	Alive   int      `json:"alive"`
	Left    int      `json:"left"`
	Gone    int      `json:"gone"`
	Silent  []string `json:"silent,omitempty"`
}

const nodeChangeBytesMax = 4 << 10

func (s *Server) listNodes(w http.ResponseWriter, _ *http.Request) {
	list := s.src.Nodes()
	list.Nodes = append([]Node{}, list.Nodes...)
	writeJSON(w, http.StatusOK, list)
}

// changeNodes answers with the nodes once what was said is in force here; the
// others hear of it at once.
func (s *Server) changeNodes(w http.ResponseWriter, r *http.Request) {
	c := credentialOf(r)
	var change NodeChange
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, nodeChangeBytesMax))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&change)
	if err == nil && decoder.Decode(new(any)) != io.EOF {
		err = errors.New("something follows it")
	}
	if err != nil {
		writeProblem(w, http.StatusBadRequest, `the body is not like {"action":"out","target":"edge-fra-1"}: `+err.Error())
		return
	}
	change.By = c.name
	what := fmt.Sprintf("nodes %.20q %.80q", change.Action, change.Target)
	if err := s.src.Change(change); err != nil {
		s.audit.note(c, r, what, http.StatusConflict, err.Error())
		writeProblem(w, http.StatusConflict, err.Error())
		return
	}
	s.audit.note(c, r, what, http.StatusOK, "done")
	s.listNodes(w, r)
}
