package smapiv1

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/smapiv1/xenapi"
	"reflinksr/internal/smapiv1/xmlrpc"
)

func TestRequest(t *testing.T) {
	r, err := ParseRequest(string(xmlrpc.Request("vdi_create", xmlrpc.Struct{
		"command": "vdi_create", "args": []string{"1048576", "name"}, "device_config": map[string]string{"location": "/srv", "SRmaster": "true"}, "sr_uuid": "u", "unknown": 3,
	})))
	if err != nil || r.Command != "vdi_create" || !r.Master || r.DeviceConfig["location"] != "/srv" || r.Optional(1) != "name" || r.Optional(2) != "" {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := r.Arg(2, "the third"); err == nil || !strings.Contains(err.Error(), "the third") {
		t.Error(err)
	}
	for _, members := range []xmlrpc.Struct{{"args": "x"}, {"args": []any{int64(1)}}, {"device_config": "x"}, {"device_config": xmlrpc.Struct{"a": true}}, {"sr_uuid": true}, {"command": "sr_scan"}} {
		if _, err := ParseRequest(string(xmlrpc.Request("sr_delete", members))); fault.Classify(err) != ErrBadRequest {
			t.Errorf("%v: %v", members, err)
		}
	}
	if _, err := ParseRequest(strings.Repeat(" ", Limit+1)); !errors.Is(err, ErrBadRequest) {
		t.Error(err)
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "1048576": 1 << 20, "-1": -1} {
		if n, err := ParseSize("the size", text); err != nil || n != want {
			t.Errorf("%q: %d, %v", text, n, err)
		}
	}
	for _, text := range []string{"", " 1", "1 ", "1.5", "1e9", "0x10", "01", "+1", "99999999999999999999"} {
		if n, err := ParseSize("the size", text); !errors.Is(err, fault.ErrSize) {
			t.Errorf("%q: %d, %v", text, n, err)
		}
	}
}

// Each failure has the number that the interface has for it, in either form.
func TestCodes(t *testing.T) {
	for _, c := range []struct {
		command string
		err     error
		number  int
		errno   unix.Errno
	}{
		{"vdi_create", fault.Errorf(fault.ErrNoSpace, "", "full"), 44, unix.ENOSPC},
		{"vdi_create", fault.Errorf(fault.ErrVolumeExists, "", "there"), 43, unix.EEXIST},
		{"vdi_create", errors.New("whatever"), 78, unix.EIO},
		{"vdi_attach", errors.New("whatever"), 202, unix.EIO},
		{"vdi_attach", fmt.Errorf("reading: %w", unix.EIO), 200, unix.EIO},
		{"vdi_attach", &xenapi.Failure{Code: "SESSION_INVALID"}, 153, unix.EIO},
		{"sr_delete", fault.Errorf(fault.ErrNotEmpty, "", "disks"), 39, unix.EBUSY},
		{"sr_attach", fault.Errorf(ErrMissing, "device", "no device"), 90, unix.EINVAL},
		{"sr_attach", fault.Errorf(ErrMissing, "", "nothing"), 115, unix.EINVAL},
		{"vdi_lock", fault.Errorf(ErrLocked, "", "locked"), 37, unix.ENOLCK},
		{"sr_frob", fault.Errorf(ErrUnimplemented, "", "none"), 38, unix.ENOSYS},
	} {
		f := FaultOf(c.command, c.err)
		if f.Code != c.number || StatusOf(c.command, c.err) != int(c.errno) || !strings.Contains(f.Text, "[opterr="+c.command+": ") {
			t.Errorf("%s: %v is %d, %q and %d", c.command, c.err, f.Code, f.Text, StatusOf(c.command, c.err))
		}
	}
	if text := LetterOf("sr_scan", errors.New("a\nb\x1b[31m")); text != "sr_scan: a; b?[31m" {
		t.Errorf("%q", text)
	}
}

func TestDconf(t *testing.T) {
	for text, want := range map[string]map[string]string{
		"<dconf/>": {},
		"<?xml version=\"1.0\" ?>\n<config>\n\t<device>\n\t\t/dev/sdb\n\t</device>\n\t<server/>\n</config>\n": {"device": "/dev/sdb", "server": ""},
		`<dconf><location>&quot;/srv/a b&quot;</location></dconf>`:                                            {"location": "/srv/a b"},
		`<dconf><!-- of a host --><location>/a&amp;b</location></dconf>`:                                      {"location": "/a&b"},
	} {
		if conf, err := ParseDconf(text); err != nil || !maps.Equal(conf, want) {
			t.Errorf("%q: %v, %v", text, conf, err)
		}
	}
	for _, text := range []string{"", " ", "/srv", "<dconf>", "<dconf/><dconf/>", "<dconf>x</dconf>", "<dconf><a><b/></a></dconf>", "<dconf><a>1</a><a>2</a></dconf>", "<dconf><a>&b;</a></dconf>",
		`<!DOCTYPE a [<!ENTITY b "c">]><dconf><a>&b;</a></dconf>`, "<dconf/>x", strings.Repeat("<", Limit+1)} {
		if conf, err := ParseDconf(text); fault.Classify(err) != ErrBadRequest {
			t.Errorf("%.40q: %v, %v", text, conf, err)
		}
	}
}

// The document is the one that the interface's description shows, but for the order of what it does not show.
func TestDocuments(t *testing.T) {
	c := Contents{UUID: "87b8646b-b800-9500-cb7b-af3b74e02f5c", Utilisation: 7786209280, Allocation: 536870912, Size: 149407555584, Label: "a<b", Disks: []ContentsDisk{{UUID: "98de866e-b035-4b1a-a571-613bff542b89", Size: 536870912, Utilisation: 3072}}}
	want := `<?xml version="1.0" ?>
<sr>
	<uuid>
		87b8646b-b800-9500-cb7b-af3b74e02f5c
	</uuid>
	<physical_utilisation>
		7786209280
	</physical_utilisation>
	<virtual_allocation>
		536870912
	</virtual_allocation>
	<physical_size>
		149407555584
	</physical_size>
	<default_vdi_visibility>
		True
	</default_vdi_visibility>
	<label>
		a&lt;b
	</label>
	<description/>
	<vdi>
		<uuid>
			98de866e-b035-4b1a-a571-613bff542b89
		</uuid>
		<size>
			536870912
		</size>
		<utilisation>
			3072
		</utilisation>
		<locked>
			False
		</locked>
		<label/>
		<description/>
		<shareable>
			False
		</shareable>
		<read_only>
			False
		</read_only>
	</vdi>
</sr>
`
	if got := c.Document(); got != want {
		t.Error(got)
	}
	if got := PathDocument("/dev/loop1"); got != "<?xml version=\"1.0\" ?>\n<sr>\n\t<path>\n\t\t&#34;/dev/loop1&#34;\n\t</path>\n</sr>\n" {
		t.Errorf("%q", got)
	}
	if got := SRList([]Probed{{UUID: "u", Size: 1, Keys: map[string]string{"device": "/dev/sdb"}}}); !strings.Contains(got, "<SRlist>\n\t<SR>\n\t\t<UUID>\n\t\t\tu\n\t\t</UUID>\n\t\t<size>") {
		t.Error(got)
	}
}

// Whatever a device configuration is, it is read as a whole or refused.
func FuzzDconf(f *testing.F) {
	f.Add("<dconf><device>/dev/sdb</device></dconf>")
	f.Add(`<!DOCTYPE a [<!ENTITY b "c">]><dconf><a>&b;</a></dconf>`)
	f.Fuzz(func(t *testing.T, text string) {
		conf, err := ParseDconf(text)
		if err != nil && fault.Classify(err) != ErrBadRequest {
			t.Errorf("%v", err)
		}
		if again, e := ParseDconf(text); !reflect.DeepEqual(again, conf) || (e == nil) != (err == nil) {
			t.Errorf("%v, %v", again, e)
		}
	})
}

// Whatever a request is, it is read or refused as one.
func FuzzRequest(f *testing.F) {
	f.Add(FromConfig("vdi_attach_from_config", "u", "v", map[string]string{"location": "/srv"}))
	f.Fuzz(func(t *testing.T, text string) {
		if r, err := ParseRequest(text); err != nil && fault.Classify(err) != ErrBadRequest || err == nil && r.Command == "" {
			t.Errorf("%+v, %v", r, err)
		}
	})
}
