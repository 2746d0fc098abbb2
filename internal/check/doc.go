// Package check finds what is not as it should be in an SR, attached or not, and repairs what is provably ours. Each
// rule stands in a file of its own. Looking writes nothing, and a problem is one only if it is still there while no
// call changes what is looked at.
package check
