package vmcs

import "vmcsnote/internal/x86"

// An Answer is the outcome of a check.
type Answer uint8

const (
	Undecided Answer = iota // the dump does not hold what it takes to tell
	No
	Yes
)

var answerNames = [...]string{"unknown", "no", "yes"}

// String names the answer.
func (a Answer) String() string { return answerNames[a] }

// A Check is a rule that a VMCS must or should satisfy, and what was found. The
// rules are those that the processor checks at VM entry (SDM volume 3, chapter
// "VM Entries"): a VMCS that a virtual CPU has run on satisfies them.
type Check struct {
	// Name is the field checked, or what the field leads to.
	Name string
	// Value is what was found: the field's value, or that of what Want
	// describes.
	Value uint64
	// Want says what is expected, in a few words.
	Want   string
	Answer Answer
	// Weight is what the check adds to the page's score where the answer is
	// yes, and takes from it where it is no.
	Weight int
	// Fails is what a page is if the answer is no: Rejected, Stale, or Live if
	// it only loses Weight.
	Fails Verdict
}

// A judge weighs a page. It keeps the checks only if asked to: most pages that
// begin with a revision identifier are none, and fail the first.
type judge struct {
	*VMCS
	keep    bool
	checks  []Check
	verdict Verdict
	rooted  bool
	inUse   bool // by a process that lives, as far as can be told
	hard    int  // checks answered whose no would have rejected the page
	won     int
	lost    int
}

const (
	// hardEnough is how many of the checks that reject a page must have been
	// answered before it can be taken for a VMCS: a layout with a few fields
	// only would find one anywhere.
	hardEnough = 4
	// lostShare is how many points must be won for each point lost.
	lostShare = 3
)

// add takes the outcome of a check. It returns false once the page is
// rejected and nobody wants to know more.
//
//go:noinline
func (j *judge) add(c Check) bool {
	if j.keep {
		j.checks = append(j.checks, c)
	}
	if c.Fails == Rejected && c.Answer != Undecided {
		j.hard++
	}
	switch c.Answer {
	case Yes:
		j.won += c.Weight
	case No:
		j.lost += c.Weight
		j.verdict = min(j.verdict, c.Fails)
	}
	return j.verdict != Rejected || j.keep
}

// must adds a check that rejects the page, should one that costs weight.
func (j *judge) must(name string, value uint64, want string, ok bool) bool {
	return j.add(Check{Name: name, Value: value, Want: want, Answer: answer(ok), Weight: 2, Fails: Rejected})
}

//go:noinline
func (j *judge) should(name string, value uint64, want string, ok bool) {
	j.add(Check{Name: name, Value: value, Want: want, Answer: answer(ok), Weight: 1, Fails: Live})
}

// settle returns the verdict after all checks.
func (j *judge) settle() Verdict {
	if j.hard < hardEnough || j.won < lostShare*j.lost {
		j.verdict = Rejected
	}
	return j.verdict
}

func answer(ok bool) Answer {
	if ok {
		return Yes
	}
	return No
}

// canonical reports whether v is canonical on a processor with 57-bit linear
// addresses; processors with 48 bits accept fewer.
func canonical(v uint64) bool { return x86.Canonical(v, 57) }

// physical reports whether v can be a physical address.
func physical(v uint64) bool { return v < maxPhys }
