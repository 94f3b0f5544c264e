package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/pkg/errors"
)

// A table collects a row for each case.
type table struct {
	rows   [][]string
	failed bool
}

func (t *table) add(name, figure, bound string, ok bool) {
	verdict := "ok"
	if !ok {
		verdict = "FAIL"
		t.failed = true
	}
	t.rows = append(t.rows, []string{name, figure, bound, verdict})
}

func (t *table) skip(name, why string) {
	t.rows = append(t.rows, []string{name, why, "", "skipped"})
}

// atMost adds a figure that must not exceed the bound, both shown by format.
func (t *table) atMost(name string, figure, bound float64, format string) {
	t.add(name, fmt.Sprintf(format, figure), "≤ "+fmt.Sprintf(format, bound), figure <= bound)
}

func (t *table) ratioAtMost(name string, r ratio, bound float64) {
	t.add(name, r.String(), fmt.Sprintf("≤ %.2f", bound), r.median <= bound)
}

func (t *table) ratioAtLeast(name string, r ratio, bound float64) {
	t.add(name, r.String(), fmt.Sprintf("≥ %.2f", bound), r.median >= bound)
}

// write prints the table so that it reads well as text and as Markdown, and
// reports whether all bounds were kept.
func (t *table) write(w io.Writer) (bool, error) {
	rows := append([][]string{{"case", "figure", "bound", ""}, {"-", "-", "-", "-"}}, t.rows...)
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			fill := " "
			if cell == "-" {
				fill = "-"
			}
			line.WriteString("| " + cell + strings.Repeat(fill, width[i]-utf8.RuneCountInString(cell)) + " ")
		}
		if _, err := fmt.Fprintln(w, line.String()+"|"); err != nil {
			return false, errors.WithStack(err)
		}
	}
	return !t.failed, nil
}
