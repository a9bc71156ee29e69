#!/bin/bash
# usage: run-tests.sh SUITE [PROGRAM...] [-- SUITE [PROGRAM...]]...
# Runs suites of cmocka programs, of fuzz replays (suite "fuzz"), of the templates' own tests (suite "templates", programs are
# languages), and of pytest (suite "pytest:debian|stable|asan"; several of these run side by side, after the others), all of them even when
# one fails. The last line is "N passed, N failed" over everything; the exit code is 0 only with 0 failed.
set -uo pipefail
. "$(dirname "$0")/lib.sh"

cd "$ROOT" || exit 1
logs=$BUILD/test
mkdir -p "$logs"
passed=0 failed=0 skipped=0
summary=()

export SLUICE_BUILD=$BUILD SLUICE_ROOT=$ROOT
export ASAN_OPTIONS=${ASAN_OPTIONS-detect_leaks=1:detect_odr_violation=0:abort_on_error=0:allocator_may_return_null=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS-print_stacktrace=1}
export LC_ALL=C.UTF-8

count() { # pattern file
    grep -cE "$1" "$2" || true
}

add() { # suite passed failed skipped
    passed=$((passed + $2)) failed=$((failed + $3)) skipped=$((skipped + $4))
    summary+=("$(printf '%-28s %5d passed %5d failed %5d skipped' "$1" "$2" "$3" "$4")")
}

# A program that dies before it reported a failure counts as one failure.
run_program() { # suite program log
    local rc=0 kind=cmocka
    if [ "$1" = fuzz ]; then
        kind=fuzz
        timeout 300 "$2" "fuzz/corpus/$(basename "$2" | sed 's/^fuzz_//')" >"$3" 2>&1 </dev/null || rc=$?
    else
        CMOCKA_MESSAGE_OUTPUT=TAP timeout 300 "$2" >"$3" 2>&1 </dev/null || rc=$?
    fi
    ok=$(count '^ok ' "$3") bad=$(count '^not ok ' "$3") skip=$(count '^(not )?ok .*# SKIP' "$3")
    ok=$((ok - $(count '^ok .*# SKIP' "$3"))) bad=$((bad - $(count '^not ok .*# SKIP' "$3")))
    [ $rc = 0 ] || [ "$bad" != 0 ] || bad=1
    if [ $rc = 0 ] && [ "$((ok + bad + skip))" = 0 ]; then
        bad=1
        echo "no test ran" >>"$3"
    fi
    [ "$bad" = 0 ] && return
    printf 'FAILED %s (%s, exit %d)\n' "$2" "$kind" "$rc"
    grep -vE '^(ok |[0-9]+\.\.[0-9]+|TAP version)' "$3" | head -n 80
}

# A template is tested as its user would: by its own makefile, with the gateway that was built here.
run_template() { # language log
    local rc=0
    flock "$BUILD/filters/.lock-$1" make --no-print-directory -C "templates/$1" test SLUICE="$BUILD/bin/sluice" >"$2" 2>&1 </dev/null || rc=$?
    ok=$((rc == 0)) bad=$((rc != 0)) skip=0
    [ $rc = 0 ] && return
    printf 'FAILED templates/%s (make test, exit %d)\n' "$1" "$rc"
    tail -n 30 "$2"
}

run_programs() { # suite program...
    local suite=$1 program sum_ok=0 sum_bad=0 sum_skip=0 ok bad skip
    shift
    for program in "$@"; do
        if [ "$suite" = templates ]; then
            run_template "$program" "$logs/$suite-$program.log"
        else
            run_program "$suite" "$program" "$logs/$suite-$(sed 's|.*/tests/||; s|/|-|g' <<<"$program").log"
        fi
        sum_ok=$((sum_ok + ok)) sum_bad=$((sum_bad + bad)) sum_skip=$((sum_skip + skip))
    done
    add "$suite ($# programs)" $sum_ok $sum_bad $sum_skip
}

junit_sum() { # attribute file: over all <testsuite> elements
    grep -oE '<testsuite [^>]*>' "$2" | grep -oE " $1=\"[0-9]+\"" | grep -oE '[0-9]+' | paste -sd+ | bc_or_zero
}

bc_or_zero() {
    local expression
    read -r expression || true
    echo $((${expression:-0}))
}

# Writes "passed failed skipped" to its result file.
run_pytest() { # debian|stable|asan
    local nginx=$1 xml=$logs/pytest-$1.xml result=$logs/pytest-$1.result rc=0 tests bad skip
    rm -f "$xml"
    local binary module
    case $nginx in
    debian) binary=$(command -v nginx) module=$BUILD/modules/ngx_http_sluice_module.so ;;
    *) binary=$BUILD/nginx/$nginx/sbin/nginx module=$BUILD/nginx/$nginx/modules/ngx_http_sluice_module.so ;;
    esac
    # shellcheck disable=SC2086 # PYTEST_ARGS is a list of words
    SLUICE_TEST_NGINX=$nginx SLUICE_TEST_NGINX_BINARY=$binary SLUICE_TEST_MODULE=$module \
        timeout --foreground "${PYTEST_SECONDS:-1500}" "$BUILD/venv/bin/python" -m pytest -q -rfE --junitxml="$xml" -o cache_dir="$BUILD/test/pytest-cache-$nginx" \
        ${PYTEST_ARGS-} </dev/null || rc=$?
    if [ ! -f "$xml" ]; then
        echo 0 1 0 >"$result"
        return
    fi
    tests=$(junit_sum tests "$xml") skip=$(junit_sum skipped "$xml")
    bad=$(($(junit_sum failures "$xml") + $(junit_sum errors "$xml")))
    # 5: nothing was selected. Any other code without a failure is pytest's own trouble.
    [ $rc = 0 ] || [ $rc = 5 ] || [ $bad != 0 ] || bad=1
    echo $((tests > bad + skip ? tests - bad - skip : 0)) $bad "$skip" >"$result"
}

# One shows its progress; several would write into each other's lines, so each is shown whole when it has ended.
run_pytests() { # debian|stable|asan...
    local nginx ok bad skip
    for nginx in "$@"; do
        echo 0 1 0 >"$logs/pytest-$nginx.result"
    done
    if [ $# = 1 ]; then
        run_pytest "$1"
    else
        echo "pytest: $* side by side; progress in $logs/pytest-<nginx>.log"
        for nginx in "$@"; do
            (
                run_pytest "$nginx" >"$logs/pytest-$nginx.log" 2>&1
                printf '\n==== pytest (%s)\n' "$nginx" | cat - "$logs/pytest-$nginx.log"
            ) &
        done
        wait
    fi
    for nginx in "$@"; do
        read -r ok bad skip <"$logs/pytest-$nginx.result"
        add "pytest ($nginx)" "$ok" "$bad" "$skip"
    done
}

suite=
programs=()
nginxes=()
flush() {
    case $suite in
    '') ;;
    pytest:*) nginxes+=("${suite#pytest:}") ;;
    *) [ ${#programs[@]} = 0 ] || run_programs "$suite" "${programs[@]}" ;;
    esac
    suite= programs=()
}
for word in "$@"; do
    if [ "$word" = -- ]; then
        flush
    elif [ -z "$suite" ]; then
        suite=$word
    else
        programs+=("$word")
    fi
done
flush
[ ${#nginxes[@]} = 0 ] || run_pytests "${nginxes[@]}"

echo
[ ${#summary[@]} = 0 ] || printf '%s\n' "${summary[@]}"
echo "$passed passed, $failed failed"
[ $failed = 0 ]
