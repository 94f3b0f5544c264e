package inputfile

import (
	"io/fs"
	"testing"

	"github.com/pkg/errors"
)

func TestAbout(t *testing.T) {
	bad := errors.New("file at offset 0x0: found zeros")
	for _, tt := range []struct {
		name string
		err  error
		want string // "" for nil
	}{
		{"no error", nil, ""},
		{"without a name", bad, "file: file at offset 0x0: found zeros"},
		{"that begins like the name", errors.New("file"), "file: file"},
		{"named by the system", errors.WithMessage(&fs.PathError{Op: "read", Path: "other", Err: bad}, "search"), "search: read other: file at offset 0x0: found zeros"},
		{"named before", errors.WithMessage(About("other", bad), "search"), "search: other: file at offset 0x0: found zeros"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := About("file", tt.err)
			if tt.want == "" && got != nil || tt.want != "" && (got == nil || got.Error() != tt.want) {
				t.Errorf("got %v, want %q", got, tt.want)
			}
			if tt.err != nil && !errors.Is(got, tt.err) {
				t.Errorf("%v does not wrap the error", got)
			}
		})
	}
}
