package hint

import "strings"

// DidYouMean is the hint for a word that is none of names, or "".
func DidYouMean(word string, names []string) string {
	if near := nearest(word, names); len(near) > 0 {
		return "did you mean " + strings.Join(near, " or ") + "?"
	}
	return ""
}

// nearest returns up to three of names that the word may have been meant for:
// those with the fewest typing errors between, or else those that it is a part
// of. Case does not matter.
func nearest(word string, names []string) []string {
	const atMost = 3
	var near []string
	best := min(len(word)/3, 3) + 1 // distances below it count
	small := strings.ToLower(word)
	for _, n := range names {
		switch d := distance(small, strings.ToLower(n)); {
		case d < best:
			best, near = d, []string{n}
		case d == best && len(near) > 0:
			near = append(near, n)
		}
	}
	if len(near) == 0 && len(word) > 2 {
		for _, n := range names {
			if strings.Contains(strings.ToLower(n), small) {
				near = append(near, n)
			}
		}
	}
	return near[:min(len(near), atMost)]
}

// distance counts the letters to add, leave out, replace or swap with the next
// to make b of a.
func distance(a, b string) int {
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			row[j+1] = min(last[j+1], row[j], last[j]) + 1
			if a[i] == b[j] {
				row[j+1] = last[j]
			} else if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
