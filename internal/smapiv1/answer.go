package smapiv1

import (
	"maps"
	"slices"
	"strings"

	"reflinksr/internal/smapiv1/xmlrpc"
)

// Disk is the answer of commands that make or change a disk: what it is called in xapi's database.
func Disk(uuid string) xmlrpc.Struct { return xmlrpc.Struct{"uuid": uuid, "location": uuid} }

// Attached is the answer of vdi_attach for a block device.
func Attached(device string) xmlrpc.Struct {
	return xmlrpc.Struct{"params": device, "params_nbd": "", "o_direct": true, "o_direct_reason": "", "xenstore_data": xmlrpc.Struct{}}
}

// AttachedFromConfig is the answer of vdi_attach_from_config: its caller would take params_nbd, if it is there, for the address of a server.
func AttachedFromConfig(device string) xmlrpc.Struct {
	answer := Attached(device)
	delete(answer, "params_nbd")
	return answer
}

// Driver is what a driver says of itself.
type Driver struct {
	Name, Description, Vendor, Copyright, Version string
	Capabilities                                  []string
	Configuration                                 map[string]string // what each key of a device configuration is for
}

// Answer is that as xapi reads it.
func (d Driver) Answer() xmlrpc.Struct {
	configuration := []any{}
	for _, key := range slices.Sorted(maps.Keys(d.Configuration)) {
		configuration = append(configuration, xmlrpc.Struct{"key": key, "description": d.Configuration[key]})
	}
	return xmlrpc.Struct{
		"name": d.Name, "description": d.Description, "vendor": d.Vendor, "copyright": d.Copyright, "driver_version": d.Version,
		"required_api_version": "1.1", "capabilities": d.Capabilities, "configuration": configuration,
	}
}

// Probed is an SR that a probe has found.
type Probed struct {
	UUID string
	Size int64             // bytes
	Keys map[string]string // where it is, by the keys of a device configuration
}

// SRList is the answer of sr_probe.
func SRList(found []Probed) string {
	list := element{name: "SRlist"}
	for _, f := range found {
		sr := element{name: "SR", children: []element{value("UUID", f.UUID), value("size", itoa(f.Size))}}
		for _, key := range slices.Sorted(maps.Keys(f.Keys)) {
			sr.children = append(sr.children, value(key, f.Keys[key]))
		}
		list.children = append(list.children, sr)
	}
	var b strings.Builder
	list.document(&b)
	return b.String()
}
