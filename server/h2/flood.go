package h2

// flood.go bounds what costs a client little and us more. Each kind has a budget
// that time refills, so that whoever uses the protocol as it is meant never
// notices. Work done for the client refills what that work calls for.

import "time"

const (
	// floodBurst is what a client may do of each kind at once, floodRate how much
	// of it comes back in a second.
	floodBurst, floodRate = 1000, 100
	// resetBurst and resetRate are those of resets: a browser that leaves a page
	// resets what it had asked for, a hundred streams or two.
	resetBurst, resetRate = 400, 50
	// windowGrant is how many WINDOW_UPDATE frames each request and each 512 bytes
	// of DATA call for. They may come long after the bytes, when the client reads
	// what it has received, so that grants add up; windowGrantMax of them at most.
	windowGrant, windowGrantBytes = 4, 512
	windowGrantMax                = 1 << 20
)

type budget struct {
	spent    int32 // below zero where more was granted
	refilled time.Time
}

type budgets [floodKinds]budget

// spend takes one of a kind; false where nothing is left.
func (b *budgets) spend(kind int, now time.Time) bool {
	one := &b[kind]
	burst, rate := int32(floodBurst), int64(floodRate)
	if kind == floodReset {
		burst, rate = resetBurst, resetRate
	}
	if one.spent < burst {
		if one.spent == 0 {
			one.refilled = now
		}
		one.spent++
		return true
	}
	back := int64(now.Sub(one.refilled)) * rate / int64(time.Second)
	if back <= 0 {
		return false
	}
	one.refilled = now
	one.spent = int32(max(int64(one.spent)-back, 0)) + 1
	return true
}

// grant gives some of a kind back, or beforehand.
func (b *budgets) grant(kind int, n int) {
	b[kind].spent = max(b[kind].spent-int32(min(n, windowGrantMax)), -windowGrantMax)
}

// pace judges how fast a client takes or sends while somebody waits for it: over
// limits.stall_timeout of waiting at a time, so that our own silence counts for
// nothing.
type pace struct {
	waited time.Duration
	moved  int64
}

// slow adds to what is known and says whether the client is too slow.
func (p *pace) slow(waited time.Duration, stall time.Duration, rate int64) bool {
	p.waited += waited
	if p.waited < stall {
		return false
	}
	least := max(int64(float64(rate)*stall.Seconds()), 1)
	slow := p.moved < least
	*p = pace{}
	return slow
}
