package record

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pkg/errors"

	"vmcsnote/sysfs"
)

var when = time.Date(2026, 11, 23, 4, 35, 0, 0, time.UTC)

func sample(noteSize int) Record {
	r := Record{
		Pair:    sysfs.Pair{Addr: 0x1cba8c0, Size: 0x2000},
		Release: "6.1.0-56-amd64",
		BootID:  "5f0d4f0c-6f8e-4d0c-9f0e-0c6a51a3a8b1",
		Time:    when,
	}
	for i := range noteSize {
		r.Note = append(r.Note, byte(i^i>>8))
	}
	return r
}

// sealed returns a record of this text the checksum that belongs to it.
func sealed(text string) []byte {
	return []byte(text + sumLine([]byte(text)))
}

func equal(a, b Record) bool {
	return a.Pair == b.Pair && a.Layout == b.Layout && a.Release == b.Release && a.BootID == b.BootID && a.Time.Equal(b.Time) && bytes.Equal(a.Note, b.Note)
}

func TestEncode(t *testing.T) {
	r := sample(0)
	r.Time = when.Add(123 * time.Millisecond).In(time.FixedZone("", 3600))
	r.Note = []byte(strings.Repeat("\x00\xff", 29)) // one byte more than a line
	const want = `vmcsnote-record 1
pair: 1cba8c0 2000
release: 6.1.0-56-amd64
boot-id: 5f0d4f0c-6f8e-4d0c-9f0e-0c6a51a3a8b1
time: 2026-11-23T04:35:00Z
note: AP8A/wD/AP8A/wD/AP8A/wD/AP8A/wD/AP8A/wD/AP8A/wD/AP8A/wD/AP8A/wD/AP8A/wD/AP8A
note: /w==
sha256: SUM
`
	got := string(r.Encode())
	lines := strings.SplitAfter(got, "\n")
	sum := strings.TrimSpace(strings.TrimPrefix(lines[7], "sha256: "))
	if got != strings.Replace(want, "SUM", sum, 1) {
		t.Errorf("got:\n%s", got)
	}
	sha256sum := exec.Command("sha256sum")
	sha256sum.Stdin = strings.NewReader(strings.Join(lines[:7], ""))
	if out, err := sha256sum.Output(); err != nil {
		t.Log("not compared with sha256sum: ", err)
	} else if !bytes.HasPrefix(out, []byte(sum+" ")) {
		t.Errorf("sha256: %s, sha256sum says %s", sum, out)
	}
}

// TestOfLayouts: a record whose note is from a file has that file's name in the
// pair's place, and always a note.
func TestOfLayouts(t *testing.T) {
	want := sample(100)
	want.Pair, want.Layout = sysfs.Pair{}, "/etc/vmcsnote/layouts.d/06-9e-0d-f4"
	b := want.Encode()
	if !strings.HasPrefix(string(b), "vmcsnote-record 2\nlayout: /etc/vmcsnote/layouts.d/06-9e-0d-f4\nrelease: ") {
		t.Errorf("got:\n%s", b)
	}
	if got, err := Parse(b); err != nil || !equal(got, want) {
		t.Errorf("%v, or another record came back", err)
	}
	want.Note = nil
	if _, err := Parse(want.Encode()); err == nil {
		t.Error("no error without a note")
	}
}

func TestRoundTrip(t *testing.T) {
	for _, size := range []int{0, 1, noteLine - 1, noteLine, noteLine + 1, 4756, maxNote} {
		want := sample(size)
		b := want.Encode()
		got, err := Parse(b)
		if err != nil || !equal(got, want) {
			t.Errorf("note of %d bytes: %v, or another record came back", size, err)
		}
		if !Looks(b) || len(b) > MaxSize {
			t.Errorf("note of %d bytes: no record, or too long: %d bytes", size, len(b))
		}
	}
}

func TestParseErrors(t *testing.T) {
	good := string(sample(100).Encode())
	body := good[:strings.Index(good, "sha256:")]
	for _, tt := range []struct {
		name string
		in   []byte
		err  string
		sum  bool // errChecksum is within the error
	}{
		{"empty", nil, `found "" at offset 0, expected "vmcsnote-record 1"`, false},
		{"no record", []byte("\x7fELF"), `found "\x7fELF" at offset 0`, false},
		{"version 2 without a file of layouts", sealed("vmcsnote-record 2\npair: 1 1\n"), "not in the form", false},
		{"version 3", sealed("vmcsnote-record 3\n"), `version "3", expected 1 or 2`, false},
		{"version 10", sealed("vmcsnote-record 10\n"), `version "10", expected 1 or 2`, false},
		{"first line alone", []byte("vmcsnote-record 1"), "found \"vmcsnote-record 1\" at offset 0", true},
		{"too long", bytes.Repeat([]byte(magic), MaxSize/len(magic)+1), "expected at most 2097152", false},
		{"a bit changed", []byte(strings.Replace(good, "1cba8c0", "1cba8c1", 1)), "checksum does not match", true},
		{"cut short by a byte", []byte(good[:len(good)-1]), "", true},
		{"cut short by half", []byte(good[:len(good)/2]), "", true},
		{"checksum missing", []byte(body), "", true},
		{"line ends of DOS", []byte(strings.ReplaceAll(good, "\n", "\r\n")), `version "1\r"`, false},
		{"something after the checksum", []byte(good + "\n"), "", true},
		{"checksum in capitals", []byte(body + "SHA256" + good[len(body)+6:]), "", true},

		{"unknown key", sealed(body + "microcode: 0x2f\n"), `line 8, "microcode": unknown key`, false},
		{"empty line", sealed(body + "\n"), `line 8, "": unknown key`, false},
		{"no colon", sealed(body + "pair\n"), `line 8, "pair": pair ""`, false},
		{"pair unparsable", sealed(strings.Replace(body, "1cba8c0 ", "", 1)), `line 2, "pair": pair "2000": expected an address and a size`, false},
		{"pair beyond limits", sealed(strings.Replace(body, "2000", "200000", 1)), "size 0x200000", false},
		{"pair in another form", sealed(strings.Replace(body, "1cba8c0", "0x1cba8c0", 1)), "not in the form", false},
		{"release empty", sealed(strings.Replace(body, "6.1.0-56-amd64", "", 1)), `"release": found "", expected one word`, false},
		{"release of two words", sealed(strings.Replace(body, "6.1.0-56", "6.1 0", 1)), "expected one word", false},
		{"boot-id not ASCII", sealed(strings.Replace(body, "5f0d", "5é", 1)), `"boot-id": found "5é`, false},
		{"boot-id missing", sealed(strings.Replace(body, "boot-id: 5f0d4f0c-6f8e-4d0c-9f0e-0c6a51a3a8b1\n", "", 1)), "not in the form", false},
		{"time unparsable", sealed(strings.Replace(body, "2026-11-23T", "2026-11-23 ", 1)), `line 5, "time": parsing time`, false},
		{"time of another zone", sealed(strings.Replace(body, "00Z", "00+01:00", 1)), "not in the form", false},
		{"time with fractions", sealed(strings.Replace(body, "00Z", "00.5Z", 1)), "not in the form", false},
		{"note not base64", sealed(body + "note: !\n"), `line 8, "note": illegal base64`, false},
		{"note goes on after its end", sealed(body + "note: AAAA\n"), "not in the form", false},
		{"note line empty", sealed(body + "note: \n"), "not in the form", false},
		{"key twice", sealed(body + "release: 6.1.0-56-amd64\n"), "not in the form", false},
		{"checksum twice", sealed(good), "not in the form", false},
		{"note longer than 1 MiB", sample(maxNote + 1).Encode(), "more than 1048576 bytes", false},
		{"release with a line of its own", func() []byte { r := sample(0); r.Release = "x\npair: 0 1"; return r.Encode() }(),
			"not in the form", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := Parse(tt.in)
			if err == nil || !strings.Contains(err.Error(), tt.err) || errors.Is(err, errChecksum) != tt.sum {
				t.Errorf("got error %v, want one with %q", err, tt.err)
			}
			if !equal(r, Record{}) {
				t.Errorf("got %+v with an error", r)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	good := sample(100).Encode()
	f.Add(good)
	f.Add(sample(0).Encode())
	f.Add(good[:len(good)-1])
	f.Add([]byte("vmcsnote-record 2\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		// The second form is the same text with its checksum put right, or
		// nothing after the checksum would ever be reached.
		for _, b := range [][]byte{b, sealed(string(b))} {
			r, err := Parse(b)
			if err != nil {
				if !equal(r, Record{}) {
					t.Fatalf("error %v with %+v", err, r)
				}
				continue
			}
			if !Looks(b) || !bytes.Equal(r.Encode(), b) {
				t.Fatalf("%q is read, but written as %q", b, r.Encode())
			}
		}
	})
}
