#!/usr/bin/env bash
# Gives every principal what it needs of Kafka, and nothing else; docs/threats.md says why.
#
#   BOOTSTRAP=kafka:9093 COMMAND_CONFIG=admin.properties deploy/kafka/acls.sh
#
# The broker needs an authorizer that denies what no rule allows (allow.everyone.if.no.acl.found=false). A principal is
# the name that Kafka knows a client by: of SASL the user name, of TLS the subject of its certificate. Topics are to be
# created before (`qethics topics create`, as a principal that may), so that no process needs the right to.
set -euo pipefail

: "${BOOTSTRAP:?host:port of a broker}"
KAFKA_ACLS=${KAFKA_ACLS:-kafka-acls.sh}
PREFIX=${PREFIX:-qethics.}
GROUP=${GROUP:-qethics}
WORKER=${WORKER:-User:qethics-worker}
GATE=${GATE:-User:qethics-gate}
PAGER=${PAGER:-User:qethics-pager}
OPERATOR=${OPERATOR:-User:qethics-operator}
# Who sends job events and results; who routes runs; who reads what there is to be shown. Several are separated by blanks.
PRODUCERS=${PRODUCERS:-User:qethics-producer}
SCHEDULERS=${SCHEDULERS:-User:qethics-scheduler}
AUDITORS=${AUDITORS:-User:qethics-auditor}

acl() {
  "$KAFKA_ACLS" --bootstrap-server "$BOOTSTRAP" ${COMMAND_CONFIG:+--command-config "$COMMAND_CONFIG"} --add "$@" > /dev/null
}

may() { # may PRINCIPAL OPERATION TOPIC...
  local principal=$1 operation=$2 topic named=()
  shift 2
  for topic in "$@"; do
    named+=(--topic "$PREFIX$topic")
  done
  acl --allow-principal "$principal" --operation "$operation" --operation Describe "${named[@]}"
}

reads_as() { # reads_as PRINCIPAL GROUP
  acl --allow-principal "$1" --operation Read --operation Describe --group "$2"
}

topics=(jobs results samples checkpoints violations decisions admissions admission-requests admission-replies evidence
  alerts directives incidents replay-requests dead-letter)

# Every process of ours checks at its start that the topics fit.
for process in "$WORKER" "$GATE" "$PAGER"; do
  may "$process" DescribeConfigs "${topics[@]}"
done

# Control records stand among the events, so a worker writes to what it reads.
may "$WORKER" Read jobs results admissions samples checkpoints
may "$WORKER" Write jobs results admissions samples checkpoints violations decisions evidence alerts directives \
  replay-requests dead-letter
reads_as "$WORKER" "$GROUP"

may "$GATE" Read directives admission-requests
may "$GATE" Write admissions admission-replies dead-letter
reads_as "$GATE" "$GROUP-admission"

may "$PAGER" Read alerts incidents directives jobs results violations decisions evidence
may "$PAGER" Write incidents

# `qethics rebaseline`, and directives given by hand.
may "$OPERATOR" Write samples directives

for principal in $PRODUCERS; do
  may "$principal" Write jobs results
done
for principal in $SCHEDULERS; do
  may "$principal" Write admission-requests jobs
  may "$principal" Read admission-replies directives replay-requests
  reads_as "$principal" "$GROUP-scheduler"
done
for principal in $AUDITORS; do
  may "$principal" Read violations decisions admissions evidence alerts incidents directives replay-requests dead-letter
  reads_as "$principal" "$GROUP-audit"
done
echo "rules are set for $WORKER $GATE $PAGER $OPERATOR $PRODUCERS $SCHEDULERS $AUDITORS"
