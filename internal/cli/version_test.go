// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"runtime/debug"
	"testing"
)

func TestBuilt(t *testing.T) {
	const commit = "0123456789abcdef0123456789abcdef01234567"
	type settings = []debug.BuildSetting
	for name, c := range map[string]struct {
		settings settings
		want     string
	}{
		"scripts/package or go test": {nil, "0.1.0"},
		"clean clone":                {settings{{Key: "vcs.revision", Value: commit}, {Key: "vcs.modified", Value: "false"}}, "0.1.0-g01234567"},
		"clone with changes":         {settings{{Key: "vcs.modified", Value: "true"}, {Key: "vcs.revision", Value: commit}}, "0.1.0-g01234567-dirty"},
		"short revision":             {settings{{Key: "vcs.revision", Value: "01"}}, "0.1.0-g01"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := built("0.1.0", &debug.BuildInfo{Settings: c.settings}); got != c.want {
				t.Errorf("%s, expected %s", got, c.want)
			}
		})
	}
}
