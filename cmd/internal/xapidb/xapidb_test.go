package xapidb

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"reflinksr/internal/fault"
)

const (
	srID   = "5e000000-0000-4000-8000-000000000001"
	diskID = "d1000000-0000-4000-8000-000000000001"
	snapID = "d1000000-0000-4000-8000-000000000002"
	diskRf = "OpaqueRef:aa000000-0000-4000-8000-000000000001"
	snapRf = "OpaqueRef:aa000000-0000-4000-8000-000000000002"
)

// whole is a database as xapi writes one, with more in its tables.
func whole(more ...string) string {
	tables := map[string]string{
		"SR":  fmt.Sprintf(`<row ref="OpaqueRef:1" __ctime="1" __mtime="2" uuid="%s" VDIs="('%s')" name__label="old"/>`, srID, diskRf),
		"VBD": "", "VM": "", "pool": "", "task": "",
		"VDI": fmt.Sprintf(`<row ref="%s" _ref="%[1]s" SR="OpaqueRef:1" uuid="%s" location="%[2]s" is_a_snapshot="false" managed="true" sharable="true" name__label="web%%.server%%%%%%n&quot;&lt;" name__description="" snapshot_of="OpaqueRef:NULL" snapshot_time="19700101T00:00:00Z" type="user"/>`, diskRf, diskID) +
			fmt.Sprintf(`<row ref="%s" SR="OpaqueRef:1" uuid="%s" location="%[2]s" is_a_snapshot="true" managed="true" name__label="snap" snapshot_of="%s" snapshot_time="20260301T12:00:05Z" type="user"/>`, snapRf, snapID, diskRf),
	}
	for i := 0; i < len(more); i += 2 {
		tables[more[i]] += more[i+1]
	}
	text := `<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<database><manifest><pair key="schema_major_vsn" value="5"/><pair key="generation_count" value="7"/></manifest>`
	for _, name := range []string{"SR", "VBD", "VM", "VDI", "pool", "task"} {
		text += fmt.Sprintf(`<table name="%s">%s</table>`, name, tables[name])
	}
	return text + "</database>"
}

func TestRead(t *testing.T) {
	d, err := read(strings.NewReader(whole()))
	if err != nil {
		t.Fatal(err)
	}
	if !d.SRs[srID] || len(d.SRs) != 1 || len(d.VDIs) != 2 {
		t.Errorf("%v, %v", d.SRs, d.VDIs)
	}
	want := VDI{UUID: diskID, Location: diskID, SR: srID, Name: "web server%\n\"<", Type: "user", Sharable: true, Managed: true}
	if got := *d.VDIs[diskID]; got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	want = VDI{UUID: snapID, Location: snapID, SR: srID, Name: "snap", Type: "user", Managed: true, Snapshot: true, SnapshotOf: diskID, SnapshotTime: time.Date(2026, 3, 1, 12, 0, 5, 0, time.UTC)}
	if got := *d.VDIs[snapID]; got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// Whatever else names a disk, by its reference or its UUID, uses it; its SR, other disks, and its own row do not.
func TestUsedBy(t *testing.T) {
	for _, c := range []struct{ table, row, want string }{
		{"VBD", `<row ref="OpaqueRef:9" uuid="v" VDI="` + diskRf + `"/>`, "VBD v"},
		{"VM", `<row ref="OpaqueRef:9" name__label="web" suspend_VDI="` + diskRf + `"/>`, "VM web"},
		{"VM", `<row ref="OpaqueRef:9" name__label="web" other_config="(('disk'%.'` + diskID + `'))"/>`, "VM web"},
		{"pool", `<row ref="OpaqueRef:9" ha_statefiles="('` + snapRf + `'%.'` + diskRf + `')"/>`, "pool"},
		{"pool", `<row ref="OpaqueRef:9" redo_log_vdi="` + diskRf + `"/>`, "pool"},
		{"VDI", `<row ref="OpaqueRef:ab000000-0000-4000-8000-000000000001" uuid="ab000000-0000-4000-8000-000000000002" parent="` + diskRf + `"/>`, ""},
		{"SR", `<row ref="OpaqueRef:9" uuid="5e000000-0000-4000-8000-000000000009" VDIs="` + diskRf + `"/>`, ""},
		{"VBD", `<row ref="OpaqueRef:9" VDI="OpaqueRef:NULL" x="` + diskID[:35] + `" y="x-y-z"/>`, ""},
		{"task", `<row ref="` + diskRf + `" uuid="` + diskID + `"/>`, ""},
	} {
		d, err := read(strings.NewReader(whole(c.table, c.row)))
		if err != nil {
			t.Fatal(c.row, err)
		}
		if got := d.VDIs[diskID].UsedBy; got != c.want {
			t.Errorf("%s: used by %q, want %q", c.row, got, c.want)
		}
	}
	d, err := read(strings.NewReader(strings.ReplaceAll(whole(), diskRf, "Ref:short")))
	if err != nil || !strings.Contains(d.VDIs[diskID].UsedBy, "Ref:short") {
		t.Errorf("a reference of an unknown form: %+v, %v", d.VDIs[diskID], err)
	}
}

// A disk whose own row has a VBD is used, also if that is not there: then the database is not whole.
func TestVBDThatIsMissing(t *testing.T) {
	d, err := read(strings.NewReader(strings.Replace(whole(), ` uuid="`+diskID+`"`, ` uuid="`+diskID+`" VBDs="('OpaqueRef:bb')"`, 1)))
	if err != nil || !strings.Contains(d.VDIs[diskID].UsedBy, "OpaqueRef:bb") {
		t.Errorf("%+v, %v", d.VDIs[diskID], err)
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "it ends before its end"},
		{"<html/>", "<html> in <>"},
		{whole()[:400], "line 2"},
		{strings.TrimSuffix(whole(), "</database>"), "ends before its end"},
		{whole() + "<database/>", "something follows its end"},
		{whole() + "x", "there is text"},
		{whole("VM", `<row uuid="x"/>`), "a row of the table VM has no reference"},
		{whole("VM", `<row ref="x"><row ref="y"/></row>`), "<row> in <row>"},
		{whole("VM", `text`), "there is text between the rows"},
		{whole("VM", `<row ref="x" a="1" a="2"/>`), "has a twice"},
		{whole("VDI", `<row ref="x" uuid="../../etc"/>`), `the UUID "../../etc", which is none`},
		{whole("VDI", `<row ref="x" uuid="`+diskID+`"/>`), "there are two VDIs " + diskID},
		{whole("VDI", `<row ref="`+diskRf+`" uuid="ab000000-0000-4000-8000-000000000001"/>`), "there are two VDIs"},
		{whole("VDI", `<row ref="x" uuid="ab000000-0000-4000-8000-000000000001" is_a_snapshot="maybe"/>`), "maybe as is_a_snapshot"},
		{whole("VDI", `<row ref="x" uuid="ab000000-0000-4000-8000-000000000001" snapshot_time="yesterday"/>`), "a snapshot_time that is none"},
		{whole("SR", `<row ref="x" uuid="none"/>`), `the UUID "none"`},
		{`<!DOCTYPE x [<!ENTITY y "z">]>` + whole()[38:], "there is a directive"},
		{strings.Replace(whole(), `name="SR"`, `name=""`, 1), "a table has no name"},
		{strings.Replace(whole(), "</table>", "</row>", 1), "ends what has not begun"},
		{whole("VM", `<row ref="&y;"/>`), "invalid character entity"},
	} {
		if _, err := read(strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.80s: %v, want %q", c.text, err, c.want)
		}
	}
	path := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(path, []byte("<html/>"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); !errors.Is(err, fault.ErrInvalid) || !strings.Contains(err.Error(), path) {
		t.Error(err)
	}
	if _, err := Open(filepath.Dir(path)); !errors.Is(err, fault.ErrInvalid) {
		t.Error("a directory:", err)
	}
}

func TestTimes(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 5, 0, time.UTC)
	for text, want := range map[string]time.Time{"": {}, "19700101T00:00:00Z": {}, "1970-01-01T00:00:00Z": {}, "20260301T12:00:05Z": at, "2026-03-01T12:00:05Z": at, "2026-03-01T14:00:05+02:00": at, "20260301T12:00:05": at, "2026-03-01T12:00:05": at} {
		if got, err := when(text); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestSpaces(t *testing.T) {
	for text, want := range map[string]string{"": "", "plain": "plain", "a%.b": "a b", "%t%n%r": "\t\n\r", "100%%": "100%", "%%.": "%.", "%": "%", "%x": "%x", "a%_b": "a  b"} {
		if got := unprotect(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// Only the master's own database is of now.
func TestIsMaster(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pool.conf")
	for text, want := range map[string]bool{"master": true, "master\n": true, "slave:10.0.0.1": false, "broken": false, "": false} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := IsMaster(path); (err == nil) != want {
			t.Errorf("%q: %v", text, err)
		}
	}
	if err := IsMaster(path + ".none"); err == nil || !strings.Contains(err.Error(), "xe pool-dump-database") {
		t.Error(err)
	}
}

// Whatever a database says, it is read or refused; what is read has keys that are UUIDs.
func FuzzRead(f *testing.F) {
	f.Add(whole())
	f.Add(whole("VM", `<row ref="x" suspend_VDI="`+diskRf+`"/>`))
	f.Add(whole()[:500])
	f.Add("<database><table name='VDI'><row ref='x'/>")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := read(strings.NewReader(text))
		if err != nil {
			return
		}
		for key, v := range d.VDIs {
			if len(key) != 36 || v == nil || v.UUID != key {
				t.Errorf("%q: %+v", key, v)
			}
		}
	})
}
