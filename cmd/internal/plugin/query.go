package plugin

import (
	"reflinksr/cmd/internal/version"
	"reflinksr/internal/source"
	"reflinksr/volume"
)

// Names of the two plugins. The toolstack's SR type is what follows the last dot.
const (
	volumePlugin   = "org.xen.xapi.storage.reflink"
	datapathPlugin = volume.Scheme
)

// queryResult is the interface's query_result.
type queryResult struct {
	Plugin               string            `json:"plugin"`
	Name                 string            `json:"name"`
	Description          string            `json:"description"`
	Vendor               string            `json:"vendor"`
	Copyright            string            `json:"copyright"`
	Version              string            `json:"version"`
	RequiredAPIVersion   string            `json:"required_api_version"`
	Features             []string          `json:"features"`
	Configuration        map[string]string `json:"configuration"`
	RequiredClusterStack []string          `json:"required_cluster_stack"`
}

// volumeQuery lists what works. The caller adds the features that follow from the
// scripts it finds.
var volumeQuery = queryResult{
	Plugin:             "reflink",
	Name:               "reflinksr",
	Description:        "Disks as raw files on XFS or btrfs; snapshots and clones share blocks (reflink)",
	Vendor:             "the reflinksr project",
	Copyright:          "Apache-2.0",
	Version:            version.Version,
	RequiredAPIVersion: "5.0",
	Features: []string{
		"SR_CREATE", "SR_DELETE", "SR_ATTACH", "SR_DETACH", "SR_SCAN", "SR_PROBE", "SR_UPDATE",
		"VDI_CREATE", "VDI_DESTROY", "VDI_ATTACH", "VDI_DETACH", "VDI_ATTACH_OFFLINE",
		"VDI_ACTIVATE", "VDI_ACTIVATE_READONLY", "VDI_DEACTIVATE",
		"VDI_UPDATE", "VDI_CLONE", "VDI_SNAPSHOT", "VDI_COPY", "VDI_REVERT", "VDI_CONFIG_CBT", "VDI_COMPOSE",
		"VDI_RESIZE", "VDI_RESIZE_ONLINE", "LARGE_VDI", "THIN_PROVISIONING",
	},
	Configuration:        source.OptionHelp,
	RequiredClusterStack: []string{},
}

var datapathQuery = queryResult{
	Plugin:               datapathPlugin,
	Name:                 "reflinksr loop+blkback",
	Description:          "Volumes of reflinksr as loop devices behind the kernel's xen-blkback",
	Vendor:               volumeQuery.Vendor,
	Copyright:            volumeQuery.Copyright,
	Version:              version.Version,
	RequiredAPIVersion:   "5.0",
	Features:             []string{"NONPERSISTENT"},
	Configuration:        map[string]string{},
	RequiredClusterStack: []string{},
}
