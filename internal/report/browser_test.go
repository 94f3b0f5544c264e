package report

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vmcsnote/internal/testcores"
)

var shots = flag.String("shots", "", "have Chromium show pages, and write what it shows to `DIR`")

// What a hostile value says to a browser, with the address of a server that
// must not be asked.
const orders = `</title></style></pre>"><script>document.title="obeyed"</script><img src="%[1]s/img" onerror="document.title='obeyed'">` +
	`<link rel="stylesheet" href="%[1]s/css"><iframe src="%[1]s/frame"></iframe>` + "\u202e"

// TestBrowser has Chromium read a page full of hostile values: they become no
// elements, no script runs, and nothing is asked of the network. A page that is
// nothing but these values, raw, shows that they would.
func TestBrowser(t *testing.T) {
	testcores.Tool(t, "chromium")
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer server.Close()
	text := fmt.Sprintf(orders, server.URL)
	hostile := write(t, sample(2, func(s string) string {
		if s == "" {
			return s
		}
		return s + text
	}))
	dom := browse(t, filepath.Join(t.TempDir(), "hostile.html"), hostile, "--dump-dom")
	for _, part := range []string{"<title>obeyed", "<script", "<img", "<link", "<iframe"} {
		if strings.Contains(dom, part) {
			t.Errorf("%s is in the page:\n%.2000s", part, dom)
		}
	}
	if n := strings.Count(dom, "<article"); n != 2 {
		t.Errorf("%d cards", n)
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the server was asked %d times", n)
	}
	if testing.Short() {
		return
	}
	dom = browse(t, filepath.Join(t.TempDir(), "raw.html"), "<!DOCTYPE html><title>raw</title><p title=\""+text, "--dump-dom")
	if !strings.Contains(dom, "<title>obeyed") || asked.Load() == 0 {
		t.Errorf("the browser does not obey the raw values: %d requests\n%s", asked.Load(), dom)
	}
}

// TestShots shows pages to a developer: on a screen and on paper, in light and
// dark, of no, one and many machines. Without -shots there is nothing to do.
//
//	go test ./internal/report -run Shots -args -shots DIR
func TestShots(t *testing.T) {
	if *shots == "" {
		return
	}
	evil := func(s string) string { return s + fmt.Sprintf(orders, "http://127.0.0.1") }
	for _, p := range []struct {
		name string
		page *Page
	}{{"none", sample(0, as)}, {"one", sample(1, as)}, {"two-hundred", sample(200, as)}, {"hostile", sample(2, evil)}} {
		path, page := filepath.Join(*shots, p.name+".html"), write(t, p.page)
		for scheme, setting := range map[string]string{"dark": "0", "light": "1"} {
			for _, width := range []int{1300, 420} {
				shot := filepath.Join(*shots, fmt.Sprintf("%s-%s-%d.png", p.name, scheme, width))
				browse(t, path, page, "--blink-settings=preferredColorScheme="+setting, fmt.Sprintf("--window-size=%d,2000", width), "--screenshot="+shot)
			}
		}
		browse(t, path, page, "--no-pdf-header-footer", "--print-to-pdf="+filepath.Join(*shots, p.name+".pdf"))
	}
}

// browse writes a page to a file, has Chromium read it without a window, and
// returns what that prints.
func browse(t *testing.T, path, page string, args ...string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(page), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	args = append(args, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars",
		"--user-data-dir="+t.TempDir(), "file://"+path)
	out, err := exec.CommandContext(ctx, "chromium", args...).Output()
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return string(out)
}
