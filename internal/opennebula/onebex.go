package opennebula

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"reflinksr/internal/fault"
)

// Exports is the name of the file that tells OneBEX what it can export.
const Exports = "interactive_exports.json"

// Export is a disk in that file, which has one for the number of each.
type Export struct {
	Source   string `json:"source"` // an address of NBD
	Target   string `json:"target"` // what it is a backup of: disk.D.N
	Exporter string `json:"exporter"`
	Format   string `json:"format"`
	Mode     string `json:"mode"`          // full or incremental
	Size     int64  `json:"size"`          // MiB
	Map      string `json:"map,omitempty"` // what tells of the changes
}

// OneBEX is OpenNebula's service on a host by which a backup program reads disks.
type OneBEX struct {
	address string
	limit   time.Duration // for all of a backup
	client  http.Client
}

// These find what its configuration says.
var (
	bexHost    = regexp.MustCompile(`(?m)^:host:[ \t]*['"]?([^'"\s#]+)`)
	bexPort    = regexp.MustCompile(`(?m)^:port:[ \t]*([0-9]{1,5})\b`)
	bexTimeout = regexp.MustCompile(`(?m)^:onebex_timeout:[ \t]*([0-9]{1,8})\b`)
)

// NewOneBEX reads the service's configuration, below the directory of the drivers on its host.
func NewOneBEX(remotes string) (*OneBEX, error) {
	path := filepath.Join(remotes, "etc/onebex/onebex-server.conf")
	data, err := os.ReadFile(path) // #nosec G304 -- beside the drivers
	if err != nil {
		return nil, fault.Hint(fault.Errorf(fault.ErrUnavailable, path, "OneBEX is not configured here: %w", err), "interactive backups take OpenNebula 7.4 or later, and onehost sync -f")
	}
	word := func(re *regexp.Regexp, otherwise string) string {
		if m := re.FindSubmatch(data); m != nil {
			return string(m[1])
		}
		return otherwise
	}
	host := word(bexHost, "0.0.0.0")
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	seconds, err := time.ParseDuration(word(bexTimeout, "1800") + "s")
	if err != nil {
		return nil, err
	}
	return &OneBEX{address: "http://" + net.JoinHostPort(host, word(bexPort, "13014")), limit: seconds, client: http.Client{Timeout: 30 * time.Second}}, nil
}

// ask sends a request and reads the answer into to.
func (b *OneBEX) ask(ctx context.Context, method, path string, body, to any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, method, b.address+path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := b.client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("it answers %s: %s", answer.Status, fault.Shorten(string(text)))
	}
	if err == nil {
		err = json.Unmarshal(text, to)
	}
	return err
}

// Running says whether the service answers.
func (b *OneBEX) Running(ctx context.Context) bool {
	return b.ask(ctx, http.MethodGet, "/", nil, new(any)) == nil
}

// AwaitRunning waits until it does, for a minute.
func (b *OneBEX) AwaitRunning(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for !b.Running(ctx) {
		if !pause(ctx) {
			return fault.Hint(fault.Errorf(fault.ErrUnavailable, b.address, "OneBEX was started and does not answer at %s", b.address), "its log is /var/log/one/onebex.log")
		}
	}
	return nil
}

// pause waits a moment, and says whether the context goes on.
func pause(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(time.Second / 2):
		return true
	}
}

// Export has it export the disks that dir tells of, and returns when a backup program has read them. A context that ends cancels that.
func (b *OneBEX) Export(ctx context.Context, guest, datastore int, dir string) error {
	err := b.ask(ctx, http.MethodPost, "/export", map[string]any{"VM_ID": guest, "DS_ID": datastore, "BACKUP_DIR": dir}, new(any))
	if err != nil {
		return fault.Errorf(fault.ErrUnavailable, b.address, "OneBEX does not export guest %d: %w", guest, err)
	}
	limited, cancel := context.WithTimeout(ctx, b.limit)
	defer cancel()
	for {
		var status struct {
			Status  string `json:"STATUS"`
			Success *bool  `json:"SUCCESS"`
		}
		err := b.ask(limited, http.MethodGet, fmt.Sprintf("/status?VM_ID=%d", guest), nil, &status)
		switch {
		case err == nil && status.Status != "executing":
			if status.Success != nil && !*status.Success || status.Status == "cancelled" {
				return fault.Errorf(nil, b.address, "the backup program says that the backup of guest %d has failed (%s)", guest, OneLine(fault.Shorten(status.Status)))
			}
			return nil
		case err == nil && pause(limited):
			continue
		case limited.Err() == nil:
			return fault.Errorf(fault.ErrUnavailable, b.address, "OneBEX does not say any more how the export of guest %d is: %w", guest, err)
		}
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_ = b.ask(after, http.MethodPost, fmt.Sprintf("/vms/%d/cancel", guest), map[string]any{"MESSAGE": "the backup was ended"}, new(any))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fault.Errorf(fault.ErrUnavailable, b.address, "no backup program has read all of guest %d within %v", guest, b.limit)
	}
}
