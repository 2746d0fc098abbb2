package xenapi

import (
	"context"
	"fmt"
	"strings"

	"reflinksr/internal/smapiv1/xmlrpc"
)

// VDI is a row of a disk.
type VDI struct {
	Ref, UUID, Location string
	Name, Description   string
	SR                  string // a reference
	Type                string // user, system …
	ReadOnly, Sharable  bool
	Managed             bool
	Size, Utilisation   int64 // bytes
	Snapshot            bool
	SnapshotOf          string // a reference, or Null
	SnapshotTime        string // 20261201T12:00:00Z
	MetadataOfPool      string // a reference, or Null
	CBT                 bool
	SMConfig            map[string]string
}

// VDIs are the rows of the disks of an SR.
func (c *Client) VDIs(ctx context.Context, sr string) ([]VDI, error) {
	if strings.ContainsAny(sr, `"\`) {
		return nil, fmt.Errorf("%q is no reference of an SR", sr)
	}
	const method = "VDI.get_all_records_where"
	v, err := c.Call(ctx, method, `field "SR" = "`+sr+`"`)
	if err != nil {
		return nil, err
	}
	rows, is := v.(xmlrpc.Struct)
	if !is {
		return nil, fmt.Errorf("%s answers no struct", method)
	}
	all := make([]VDI, 0, len(rows))
	for ref, row := range rows {
		r, is := row.(xmlrpc.Struct)
		if !is {
			return nil, fmt.Errorf("%s answers a row of %.60q that is none", method, ref)
		}
		all = append(all, parseVDI(ref, r))
	}
	return all, nil
}

// VDI is one row.
func (c *Client) VDI(ctx context.Context, ref string) (VDI, error) {
	v, err := c.Call(ctx, "VDI.get_record", ref)
	if err != nil {
		return VDI{}, err
	}
	row, is := v.(xmlrpc.Struct)
	if !is {
		return VDI{}, fmt.Errorf("VDI.get_record answers no struct")
	}
	return parseVDI(ref, row), nil
}

// Text calls what answers a string.
func (c *Client) Text(ctx context.Context, method string, params ...any) (string, error) {
	v, err := c.Call(ctx, method, params...)
	if err != nil {
		return "", err
	}
	text, is := v.(string)
	if !is {
		return "", fmt.Errorf("%s answers no string", method)
	}
	return text, nil
}

func parseVDI(ref string, r xmlrpc.Struct) VDI {
	text := func(name string) string { s, _ := r[name].(string); return s }
	flag := func(name string) bool { b, _ := r[name].(bool); return b }
	number := func(name string) (n int64) {
		switch v := r[name].(type) {
		case int64:
			n = v
		case string: // as 64 bits are written
			fmt.Sscan(v, &n)
		}
		return n
	}
	v := VDI{
		Ref: ref, UUID: text("uuid"), Location: text("location"), Name: text("name_label"), Description: text("name_description"), SR: text("SR"), Type: text("type"),
		ReadOnly: flag("read_only"), Sharable: flag("sharable"), Managed: flag("managed"), Size: number("virtual_size"), Utilisation: number("physical_utilisation"),
		Snapshot: flag("is_a_snapshot"), SnapshotOf: text("snapshot_of"), SnapshotTime: text("snapshot_time"), MetadataOfPool: text("metadata_of_pool"), CBT: flag("cbt_enabled"),
		SMConfig: map[string]string{},
	}
	config, _ := r["sm_config"].(xmlrpc.Struct)
	for key, value := range config {
		if s, is := value.(string); is {
			v.SMConfig[key] = s
		}
	}
	return v
}

// Introduce makes a row, and answers its reference.
func (c *Client) Introduce(ctx context.Context, v VDI) (ref string, err error) {
	of, pool, at := v.SnapshotOf, v.MetadataOfPool, v.SnapshotTime
	if of == "" {
		of = Null
	}
	if pool == "" {
		pool = Null
	}
	if at == "" {
		at = "19700101T00:00:00Z"
	}
	return c.Text(ctx, "VDI.db_introduce", v.UUID, v.Name, v.Description, v.SR, v.Type, v.Sharable, v.ReadOnly, xmlrpc.Struct{}, v.Location, xmlrpc.Struct{},
		v.SMConfig, v.Managed, fmt.Sprint(v.Size), fmt.Sprint(v.Utilisation), pool, v.Snapshot, xmlrpc.Time(at), of, v.CBT)
}

// Forget removes a row. One that is gone is forgotten already.
func (c *Client) Forget(ctx context.Context, ref string) error {
	_, err := c.Call(ctx, "VDI.db_forget", ref)
	if Is(err, HandleInvalid) {
		return nil
	}
	return err
}

// AddToSMConfig gives a row a pair, whatever it had by that key.
func (c *Client) AddToSMConfig(ctx context.Context, ref, key, value string) error {
	_, err := c.Call(ctx, "VDI.add_to_sm_config", ref, key, value)
	if Is(err, DuplicateKey) {
		if _, err = c.Call(ctx, "VDI.remove_from_sm_config", ref, key); err == nil {
			_, err = c.Call(ctx, "VDI.add_to_sm_config", ref, key, value)
		}
	}
	return err
}
