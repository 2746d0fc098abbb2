// Package calls is every call of the plugin that changes something, and compacting, which only srctl does, as a subject
// for package explore: the state before it, and a judge of what is left.
//
// The judge reads the SR's files by itself. It knows the state before the call and,
// from one undisturbed run, the state after it, and demands:
//
//   - what an interrupted call leaves is, after SR.attach, the one or the other, to
//     the byte and the name; what was answered is there, what was refused is not;
//   - also before SR.attach, every volume can be read and is as before or as after;
//   - a refused call leaves nothing behind, except what it was kept from removing; one
//     that was answered leaves at most what recovery removes;
//   - the call succeeds when it is made again, and devices can be given back;
//   - srctl check finds nothing wrong;
//   - what list_changed_blocks tells of snapshots stays as it was, whether they have
//     their data or not, and leaves out no block that differs; and a snapshot without
//     data has no blocks that no other volume shares.
//
// Where every later call fails as well (sticky errors) a call may be refused though
// its change stands: nobody could take it back. Everything else holds there, too.
package calls
