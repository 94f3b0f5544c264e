package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pkg/errors"
)

// process compares the process of a guest and its vCPUs' threads with what the
// host said of them: lines of pid N, cgroup PATH, thread TID NAME.
func process(report, name, truth string) error {
	var r struct {
		Guests []struct {
			Name, Cgroup string
			PID          int
			VCPUs        []struct {
				ID, TID int
				Thread  string
			}
		}
	}
	text, err := readBoth(report, &r, truth)
	if err != nil {
		return err
	}
	for _, g := range r.Guests {
		if g.Name != name {
			continue
		}
		lines := strings.Split(string(text), "\n")
		want := []string{"pid " + strconv.Itoa(g.PID), "cgroup " + g.Cgroup}
		for _, v := range g.VCPUs {
			if want = append(want, fmt.Sprintf("thread %d %s", v.TID, v.Thread)); v.Thread != fmt.Sprintf("CPU %d/KVM", v.ID) {
				return errors.Errorf("the thread of vCPU %d is called %q", v.ID, v.Thread)
			}
		}
		for _, w := range want {
			if !slices.Contains(lines, w) {
				return errors.Errorf("the host did not say %q", w)
			}
		}
		return nil
	}
	return errors.Errorf("%s has no guest called %s", report, name)
}
