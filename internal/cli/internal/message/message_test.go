package message

import "testing"

func TestSize(t *testing.T) {
	for _, tt := range []struct {
		bytes int64
		want  string
	}{
		{0, "0 bytes"},
		{9_999, "9999 bytes"},
		{10_240, "10 KiB"},
		{10_241, "10.0 KiB"},
		{128 << 20, "128 MiB"},
		{5<<30 + 1<<29, "5.5 GiB"},
		{1 << 40, "1 TiB"},
	} {
		t.Run(tt.want, func(t *testing.T) {
			if got := Size(tt.bytes); got != tt.want {
				t.Errorf("%s", got)
			}
		})
	}
}
