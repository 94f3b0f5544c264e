package report

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var (
	browser = flag.String("browser", "", "show pages to `PROGRAM`, a Chromium, and write what it shows to -shots")
	shots   = flag.String("shots", "", "a `DIR` for -browser")
)

// TestBrowser shows pages to a browser: it must find no script, and what it shows
// can be looked at, on a screen and on paper, in light and dark. It does so for
// developers; without -browser there is nothing to do.
//
//	go test ./internal/report -run Browser -args -browser chromium -shots DIR
func TestBrowser(t *testing.T) {
	if *browser == "" {
		return
	}
	dir := *shots
	if dir == "" {
		dir = t.TempDir()
	}
	evil := func(s string) string {
		if s == "" {
			return s
		}
		return s + `<script>document.title="obeyed"</script>"><img src=x onerror="document.title='obeyed'">'` + "\u202e"
	}
	for _, p := range []struct {
		name string
		page *Page
	}{{"none", sample(0, as)}, {"one", sample(1, as)}, {"two-hundred", sample(200, as)}, {"hostile", sample(2, evil)}} {
		path := filepath.Join(dir, p.name+".html")
		if err := os.WriteFile(path, []byte(write(t, p.page)), 0o600); err != nil {
			t.Fatal(err)
		}
		dom := show(t, path, "--dump-dom")
		if strings.Contains(dom, "<title>obeyed") || strings.Contains(dom, "<script") || strings.Contains(dom, "<img") {
			t.Errorf("%s: a value became markup:\n%.2000s", p.name, dom)
		}
		if n := strings.Count(dom, "<article"); n != len(p.page.Machines) {
			t.Errorf("%s: the browser has %d cards", p.name, n)
		}
		for scheme, setting := range map[string]string{"dark": "0", "light": "1"} {
			for _, width := range []int{1300, 420} {
				shot := filepath.Join(dir, fmt.Sprintf("%s-%s-%d.png", p.name, scheme, width))
				show(t, path, "--blink-settings=preferredColorScheme="+setting, fmt.Sprintf("--window-size=%d,2000", width), "--screenshot="+shot)
				if info, err := os.Stat(shot); err != nil || info.Size() < 10_000 {
					t.Errorf("%s: %v, %v", shot, info, err)
				}
			}
		}
		show(t, path, "--no-pdf-header-footer", "--print-to-pdf="+filepath.Join(dir, p.name+".pdf"))
	}
}

// show runs the browser without a window.
func show(t *testing.T, path string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	args = append(args, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--user-data-dir="+t.TempDir(), "file://"+path)
	out, err := exec.CommandContext(ctx, *browser, args...).Output()
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return string(out)
}
