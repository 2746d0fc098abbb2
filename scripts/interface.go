package scripts

// Interface lists the calls of SMAPIv3, version 5 (xapi-project/xen-api,
// ocaml/xapi-storage), in the order of its documentation.
var Interface = []string{
	"Plugin.query", "Plugin.ls", "Plugin.diagnostics",
	"SR.probe", "SR.create", "SR.attach", "SR.detach", "SR.destroy", "SR.stat", "SR.set_name", "SR.set_description", "SR.ls",
	"Volume.create", "Volume.snapshot", "Volume.clone", "Volume.copy", "Volume.destroy", "Volume.revert",
	"Volume.set_name", "Volume.set_description", "Volume.set", "Volume.unset", "Volume.resize", "Volume.stat",
	"Volume.compare", "Volume.similar_content", "Volume.enable_cbt", "Volume.disable_cbt", "Volume.data_destroy",
	"Volume.list_changed_blocks", "Volume.compose",
	"Datapath.open", "Datapath.attach", "Datapath.activate", "Datapath.activate_readonly", "Datapath.deactivate",
	"Datapath.detach", "Datapath.import_activate", "Datapath.close",
	"Data.copy", "Data.mirror", "Data.stat", "Data.cancel", "Data.destroy", "Data.ls",
	"Task.stat", "Task.cancel", "Task.destroy", "Task.ls",
}
