package message

import (
	"fmt"
	"strings"

	"vmcsnote/vmcore"
)

// Partial warns of memory that is missing from a dump although its writer meant
// the dump to hold it. what says what may be missing with it.
func (p *Printer) Partial(s vmcore.Shortfall, what string) {
	switch {
	case s.Pages > 0:
		p.Say("warning: the dump is not complete: %d of %s missing, and %s may be missing with them", s.Pages, are(s.Total, "page"), what)
	case s.Truncated || s.Incomplete:
		p.Say("warning: the dump is not complete: %s may be missing", what)
	}
	if len(s.Lacking) == 0 {
		return
	}
	if len(s.Pieces) == 1 {
		p.Say("warning: %s: %s may lie in the other pieces", PieceText(s.Pieces[0]), what)
	} else {
		p.Say("warning: %s of a split dump, PFNs %s are in none of them: %s may lie there", Plural(len(s.Pieces), "piece"), pfnsText(s.Lacking), what)
	}
	p.Hint("vmcsnote guests and vmcsnote extract take all pieces at once, makedumpfile --reassemble makes one dump of them")
}

// PieceText says which piece of a split dump a file is.
func PieceText(p vmcore.PFNs) string { return fmt.Sprintf("a piece of a split dump, PFNs %v", p) }

// pfnsText lists ranges of page frame numbers.
func pfnsText(ranges []vmcore.PFNs) string {
	var texts []string
	for i, r := range ranges {
		if i == MaxWarnings {
			texts = append(texts, fmt.Sprintf("and %d more ranges", len(ranges)-i))
			break
		}
		texts = append(texts, r.String())
	}
	return strings.Join(texts, ", ")
}

// are prints a number of things and the verb that goes with some of them.
func are(n uint64, what string) string {
	if n == 1 {
		return "1 " + what + " is"
	}
	return fmt.Sprintf("%d %ss are", n, what)
}
