package purge

// forget_test.go holds what is forgotten of logs, and when.

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"edgecdn/cache"
)

const day = 24 * time.Hour

// pass lets days go by for all clocks, two in about a second.
func (s *sim) pass(days int) {
	for range days / 2 {
		s.days += 2 * day
		s.run(s.now + 1100*time.Millisecond)
	}
}

// wipe has a node begin anew, with nothing.
func (s *sim) wipe(node int) {
	s.stop(node)
	s.nodes[node].fsys = newMemFS(s.rng.Uint64())
	s.begin(node)
	s.run(s.now + 4*time.Second)
}

// A log that is nobody's any more is remembered for 30 days and then forgotten by all,
// on their disks too; that of a node that lives, though it is quiet, never is.
func TestLogsAreForgotten(t *testing.T) {
	s := calm(t, 3)
	old, quiet := s.purged(0), s.purged(1)
	s.run(s.now + time.Second)
	s.wipe(0)
	s.pass(22)
	for i := range 3 {
		s.want("it is remembered", s.knows(i, old))
	}
	s.pass(12)
	for i := range 3 {
		s.want("it is forgotten, and spoken of no more", s.nodes[i].machine.tracks[old.place.Log] == nil && s.nodes[i].log.far(old.place.Log) == 0)
		s.want("a quiet node's log is not", s.knows(i, quiet))
		s.stop(i)
		s.begin(i)
	}
	s.run(s.now + 4*time.Second)
	for i := range 3 {
		s.want("nor does it come back with a start, though its entries are in the log", s.nodes[i].machine.tracks[old.place.Log] == nil && s.knows(i, quiet))
	}
	fences := s.nodes[2].log.stats.Fences.Load()
	p := s.purged(1)
	s.run(s.now + time.Second)
	s.want("its next purge comes as always", s.state(1, 2, p) == Applied && s.nodes[2].log.stats.Fences.Load() == fences && s.nodes[2].log.stats.Adopted.Load() == 0)
}

// A log that is not known to its end is not forgotten: what is missing may be asked for.
func TestUnfinishedLogStays(t *testing.T) {
	s := calm(t, 2)
	p := s.purged(0)
	s.run(s.now + time.Second)
	s.wipe(0)
	s.nodes[1].machine.tracks[p.place.Log].heard = p.place.Number + 1
	s.pass(36)
	s.want("it stays", s.knows(1, p))
}

// A node that comes back when all others have forgotten its log is not a reason to
// fence them: what is older than is remembered they have known.
func TestOldLogComesBack(t *testing.T) {
	s := calm(t, 3)
	p := s.purged(0)
	s.run(s.now + time.Second)
	s.stop(0)
	s.run(s.now + 4*time.Second)
	for _, i := range []int{1, 2} { // so that it does not know whose log it is
		s.stop(i)
		s.begin(i)
		s.run(s.now + 4*time.Second)
	}
	s.pass(36)
	s.want("it is forgotten", !s.knows(1, p) && !s.knows(2, p))
	fences := s.nodes[1].log.stats.Fences.Load() + s.nodes[2].log.stats.Fences.Load()
	s.begin(0)
	s.run(s.now + 5*time.Second)
	next := s.purged(0)
	s.run(s.now + time.Second)
	s.want("its log goes on", s.state(0, 1, next) == Applied && s.state(0, 2, next) == Applied)
	s.want("nobody was fenced for it", fences == s.nodes[1].log.stats.Fences.Load()+s.nodes[2].log.stats.Fences.Load())
	s.want("nothing was forgotten for it", s.nodes[1].log.stats.Adopted.Load()+s.nodes[2].log.stats.Adopted.Load() == 0)
}

// A peer whose clock has jumped is not believed that a log is so old.
func TestJumpedClockIsNotBelieved(t *testing.T) {
	s := calm(t, 2)
	m, log := s.nodes[1].machine, Incarnation{7}
	say := func(skew time.Duration) {
		s.step(s.nodes[1], event{kind: evMessage, from: s.nodes[0].name, message: message{kind: sayPosition, position: positionMessage{
			own: log, time: s.wall(s.nodes[1]).Add(skew).UnixMilli(), logs: []logPosition{{log: log, number: 5, age: uint64((26 * day).Milliseconds())}},
		}}})
	}
	say(40 * day)
	s.want("what is missing is known to be", m.tracks[log] != nil && m.tracks[log].heard == 5 && m.tracks[log].number == 0)
	delete(m.tracks, log)
	say(time.Hour)
	s.run(s.now + time.Second)
	s.want("else it is taken for known", m.tracks[log] != nil && m.tracks[log].number == 5)
}

// Who has never compared with another has forgotten no log, and what is adopted of one
// is as young as its last purge, however long the log was quiet before.
func TestYoungPurgeOfQuietLog(t *testing.T) {
	s := calm(t, 2)
	m, log := s.nodes[1].machine, Incarnation{7}
	say := func(number uint64, age time.Duration) {
		s.step(s.nodes[1], event{kind: evMessage, from: s.nodes[0].name, message: message{kind: sayPosition, position: positionMessage{
			own: log, time: s.wall(s.nodes[1]).UnixMilli(), logs: []logPosition{{log: log, number: number, age: uint64(age.Milliseconds())}},
		}}})
	}
	contact := m.contact
	m.contact = 0
	say(5, 26*day)
	s.want("it is missed", m.tracks[log] != nil && m.tracks[log].heard == 5 && m.tracks[log].number == 0)
	delete(m.tracks, log)
	m.contact = contact
	say(5, 26*day)
	s.run(s.now + 100*time.Millisecond)
	s.want("it is taken for known", m.tracks[log] != nil && m.tracks[log].number == 5)
	say(6, time.Second)
	s.want("it is told of as young", m.tracks[log].heard == 6 && m.wall-m.tracks[log].moved < time.Hour.Milliseconds())
}

// Who was down, or cut off, for so long that others may have forgotten what it has
// missed forgets all that it has stored before it serves again, though nobody can
// tell it of a purge that it lacks.
func TestAwayForgetsAll(t *testing.T) {
	for _, down := range []bool{true, false} {
		s := calm(t, 3)
		s.purged(1) // so that it knows the others
		s.fetch(s.nodes[2])
		s.run(s.now + 2*time.Second)
		if down {
			s.stop(2)
		} else {
			s.cut(2)
		}
		s.run(s.now + 4*time.Second)
		missed := s.purged(0)
		s.run(s.now + time.Second)
		s.wipe(0)
		s.pass(34)
		s.want("the others have forgotten it", s.nodes[1].machine.tracks[missed.place.Log] == nil && s.nodes[0].machine.tracks[missed.place.Log] == nil)
		fences := s.nodes[1].log.stats.Fences.Load()
		if down {
			s.begin(2)
		} else {
			s.cut()
		}
		s.run(s.now + 5*time.Second)
		n := s.nodes[2]
		s.want("all is forgotten once, and it serves", n.log.stats.Adopted.Load() == 1 && !s.fenced(2))
		for _, o := range n.disk.objects {
			s.want("nothing stored is used", !n.cache.live(o))
		}
		s.want("the others are not fenced for it", s.nodes[1].log.stats.Fences.Load() == fences && s.nodes[1].log.stats.Adopted.Load() == 0)
	}
}

// Who was with others all the time is not taken for away, however long ago its streams
// began; nor is who has nobody to miss purges of.
func TestTogetherIsNotAway(t *testing.T) {
	s := calm(t, 2)
	s.purged(0)
	s.pass(40)
	s.stop(1)
	s.begin(1)
	s.run(s.now + 4*time.Second)
	s.want("nothing is forgotten", s.nodes[1].log.stats.Adopted.Load() == 0 && !s.fenced(1))

	s.stop(1)
	s.run(s.now + 4*time.Second)
	gone := []Peer{{Name: s.nodes[0].name, Self: true}, {Name: s.nodes[1].name, Gone: true}}
	s.step(s.nodes[0], event{kind: evPeers, peers: gone})
	s.pass(20)
	s.wipe(1)
	s.want("its only peer was declared gone", s.nodes[0].log.stats.Adopted.Load() == 0 && !s.fenced(0) && s.nodes[0].machine.peers[s.nodes[1].name].compared)
}

// A machine that slept for weeks wakes with streams that look alive.
func TestSleeperForgetsAll(t *testing.T) {
	s := calm(t, 2)
	s.run(s.now + 2*time.Second)
	s.nodes[1].skew = 20 * day
	s.run(s.now + 200*time.Millisecond)
	s.want("all is forgotten", s.nodes[1].log.stats.Adopted.Load() == 1)
	s.run(s.now + 2*time.Second)
	s.want("it serves", !s.fenced(1))
}

// Of too many logs the one that has been nobody's for longest makes room.
func TestOldestLogMakesRoom(t *testing.T) {
	s := calm(t, 2)
	first := s.purged(0)
	s.run(s.now + time.Second)
	for range logsMax {
		s.wipe(0)
		s.purged(0)
		s.run(s.now + 500*time.Millisecond)
		s.days += time.Minute
	}
	m := s.nodes[1].machine
	s.want("the first has made room", len(m.tracks) <= logsMax && m.tracks[first.place.Log] == nil)
	s.want("the last is known", s.knows(1, s.purges[len(s.purges)-1]) && m.stats.LogsRefused.Load() > 0)
	s.want("no log is being forgotten for ever", len(m.held) == 0)
}

// All is forgotten before what cannot be had is taken for known: wherever the node dies
// between, it knows after its start no more than it has forgotten for.
func TestAdoptForgetsFirst(t *testing.T) {
	other := Incarnation{7}
	for at := 1; ; at++ {
		fsys := newMemFS(uint64(at))
		n := startNode(t, smallTuning(fsys), &objects{})
		fsys.mu.Lock()
		fsys.dieAt = fsys.ops + at
		fsys.mu.Unlock()
		err := n.adopt(context.Background(), keeping{known: map[Incarnation]uint64{other: 9}}, "a test")
		died := fsys.dead
		n.stop()
		next := fsys.restart(true)
		l, failed := open(Config{Dir: testDir}, nil, smallTuning(next))
		if failed != nil {
			t.Fatal(failed)
		}
		known := l.far(other) >= 9
		if err == nil && !known {
			t.Errorf("dead after %d: adopted, and not known", at)
		}
		if known && len(l.index) == 0 {
			t.Errorf("dead after %d: known, and nothing forgotten", at)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if !died {
			if at < 4 {
				t.Errorf("it is done after %d calls", at)
			}
			return
		}
	}
}

// Where the disk fails nothing is adopted.
func TestAdoptWithoutDisk(t *testing.T) {
	fsys := newMemFS(1)
	n := startNode(t, smallTuning(fsys), &objects{})
	fsys.mu.Lock()
	fsys.fault = func(op, _ string) error {
		if op == "sync" {
			return syscall.EIO
		}
		return nil
	}
	fsys.mu.Unlock()
	err := n.adopt(context.Background(), keeping{known: map[Incarnation]uint64{{7}: 9}}, "a test")
	if !errors.Is(err, ErrNotDurable) || n.far(Incarnation{7}) != 0 {
		t.Errorf("%v, and %d are known", err, n.far(Incarnation{7}))
	}
}

// A segment whose entries are behind a gap stays until that has closed: the head knows
// nothing of them.
func TestGapKeepsSegment(t *testing.T) {
	s := calm(t, 2)
	n := s.nodes[1]
	other := Incarnation{7}
	take := func(number uint64) {
		e := Entry{ID: ID{byte(number)}, Place: Place{other, number}, Time: simEpoch, Actor: "a test", Purges: []cache.Purge{{Kind: cache.PurgeURL, Scheme: "http", Host: "a.test", Name: "/1"}}}
		if err := n.log.receive(context.Background(), e, appendEntry(nil, &e)); err != nil {
			t.Fatal(err)
		}
		n.log.commit()
	}
	const most = 40
	for number := uint64(2); number <= most; number++ {
		take(number)
	}
	n.cache.sweep()
	n.log.followSweep()
	s.want("the first are there", n.log.index[0].place == Place{other, 2})
	take(1)
	n.cache.sweep()
	n.log.followSweep()
	s.want("they have left", n.log.index[0].place.Number > 2)
	s.stop(1)
	s.begin(1)
	s.want("they are known after a start", n.log.far(other) == most)
}
