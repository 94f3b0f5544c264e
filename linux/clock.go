package linux

import (
	"time"

	"github.com/pkg/errors"
)

// timeFields is struct timekeeper.
type timeFields struct {
	Seconds  Field `btf:"xtime_sec"`
	Monotone Field `btf:"wall_to_monotonic.tv_sec"`
	Slept    Field `btf:"offs_boot"`
}

func (f *timeFields) binding() Binding { return Binding{"", "timekeeper", f} }

// Clock returns the time of day by the kernel's clock, and how long the kernel
// has been up, both in seconds: as /proc/uptime has it, the time that the
// machine slept included. They are of the last tick; while all processors idle,
// there is none.
func (k *Kernel) Clock() (now time.Time, up time.Duration, err error) {
	at, err := k.timekeeper()
	if err != nil {
		return now, 0, err
	}
	f := new(timeFields)
	if err := k.bind(f.binding()); err != nil {
		return now, 0, err
	}
	var sec, mono, slept uint64
	if err := k.values(at, want{&f.Seconds, &sec}, want{&f.Monotone, &mono}, want{&f.Slept, &slept}); err != nil {
		return now, 0, err
	}
	const year = 366 * 24 * 3600
	s := int64(sec) + int64(mono) + int64(slept)/int64(time.Second)
	if s < 0 || s > 100*year || int64(sec) < 0 || int64(sec) > 1000*year {
		return now, 0, corrupt("the clock is %d seconds after boot, and %d after 1970", s, int64(sec))
	}
	return time.Unix(int64(sec), 0).UTC(), time.Duration(s) * time.Second, nil
}

// timekeeper returns the address of the kernel's struct timekeeper. It stands
// after a sequence counter, since 6.13 in a struct of its own.
func (k *Kernel) timekeeper() (uint64, error) {
	at, err := k.Symbol("tk_core")
	if errors.Is(err, ErrNoSymbol) {
		at, err = k.Symbol("timekeeper_data") // since 6.17
	}
	if err != nil {
		return 0, err
	}
	if s, err := k.Struct("tk_data"); err == nil {
		f, err := s.Field("timekeeper")
		return at + f.Offset(), err
	}
	for _, name := range []string{"seqcount_raw_spinlock", "seqcount"} {
		if s, err := k.Struct(name); err == nil {
			return at + (s.Size()+7)&^7, nil
		}
	}
	return 0, &TypeError{"seqcount"}
}
