package dnsgeo

// Which part of its clients a node passes on because it has too many: a state
// machine outside of the choice, which stays a function.
//
//	load over leave.load      one step up, every upInterval
//	between                   nothing moves
//	load under leave.return   half a step down, every downInterval
//
// What a step does is seen only when the TTLs of answers have passed, so that
// steps are small and far apart; each change of direction halves them. It settles
// where the load is between the two bounds, and stays.

import "time"

const (
	shedStep     = 10 // percent
	upInterval   = 10 * time.Second
	downInterval = 30 * time.Second
	// shedFull is a load in percent at which steps are twice as large.
	shedFull = 120
)

// shedder is the state of one node.
type shedder struct {
	percent int
	step    int
	rising  bool
	next    time.Time // before then nothing moves
}

// observe takes a load in percent of capacity and returns what is shed.
func (s *shedder) observe(now time.Time, load int, leave *Leave) int {
	if now.Before(s.next) {
		return s.percent
	}
	if s.percent == 0 {
		s.step, s.rising = shedStep, true
	}
	switch {
	case load > leave.Load && s.percent < 100:
		s.turn(true)
		step := s.step
		if load > shedFull {
			step *= 2
		}
		s.percent = min(s.percent+step, 100)
		s.next = now.Add(upInterval)
	case load < leave.Return && s.percent > 0:
		s.turn(false)
		s.percent = max(s.percent-max(s.step/2, 1), 0)
		s.next = now.Add(downInterval)
	}
	return s.percent
}

// turn halves the steps where the direction changes.
func (s *shedder) turn(rising bool) {
	if s.rising != rising {
		s.step, s.rising = max(s.step/2, 1), rising
	}
}

// coldMax is how long a node stays out of answers because it is cold: without
// clients it would never get warm.
const coldMax = 5 * time.Minute

// warmUp lets cold nodes in again that have been out for long enough.
func (r *Responder) warmUp(nodes []Node, now time.Time) []Node {
	since := make(map[string]time.Time)
	for i := range nodes {
		n := &nodes[i]
		if !n.Cold {
			continue
		}
		began, ok := r.cold[n.Name]
		if !ok {
			began = now
		}
		since[n.Name] = began
		n.Cold = now.Sub(began) < coldMax
	}
	r.cold = since
	return nodes
}

// shed observes the nodes' loads and notes what each sheds. Those that are gone
// are forgotten, so that there are as many states as nodes.
func (r *Responder) shed(nodes []Node, now time.Time) []Node {
	seen := make(map[string]*shedder, len(r.shedders))
	for i := range nodes {
		n := &nodes[i]
		s := r.shedders[n.Name]
		if s == nil {
			if n.Load <= r.cfg.Leave.Load {
				continue
			}
			s = new(shedder)
		}
		n.Shed = s.observe(now, n.Load, &r.cfg.Leave)
		if s.percent > 0 {
			seen[n.Name] = s
		}
	}
	r.shedders = seen
	return nodes
}
