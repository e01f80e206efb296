// What only the App can do: FiftyOne 1.22 has no operator that moves the playhead of a video, or reads it, and
// tells nobody that a dialog was closed. Not built: the App's own libraries are globals.
(() => {
  const { executeOperator, Operator, OperatorConfig, registerOperator, types } = window.__foo__;
  const { createElement, useLayoutEffect, useRef } = window.React;
  const { useRecoilState, useRecoilValue, useRecoilValueLoadable } = window.recoil;
  const PLUGIN = "@colortrack/fiftyone-colortrack";
  const SETTLED = 5000; // milliseconds in which a video that was just opened has loaded
  const LONGEST = 20000; // milliseconds to wait for what the server sends
  const MOMENT = 250;

  const useLooker = () => useRecoilValue(window.__fos__.modalLooker);

  // While annotating, seconds from the start of the video to the frame that is shown. The App keeps them in a
  // context of React, from which operators are too far away.
  const annotatedTime = () => {
    const { getPlayhead, PlaybackStoreContext } = window.__fopb__;
    const canvas = document.querySelector("[data-cy=modal] canvas") ?? {};
    let fiber = canvas[Object.keys(canvas).find((key) => key.startsWith("__reactFiber"))];
    while (fiber && fiber.type !== PlaybackStoreContext.Provider) fiber = fiber.return;
    return fiber && getPlayhead(fiber.memoizedProps.value);
  };

  // Reads the number, from 1, of the frame that the window shows; undefined if the App does not tell.
  const useFrameNumber = () => {
    const looker = useLooker();
    const sample = useRecoilValueLoadable(window.__fos__.modalSample);
    return () => {
      const time = annotatedTime();
      const rate = sample.valueMaybe()?.frameRate;
      if (time === undefined) return looker?.frameNumber;
      return rate ? Math.floor(time * rate + 0.01) + 1 : undefined;
    };
  };

  // number: from 1. While annotating, nothing happens.
  const goTo = (looker, number) => {
    if (!looker?.seekToFrame) return;
    const go = () => looker.seekToFrame(number);
    go();
    if (number === 1) return;
    // A video that is still being loaded cannot go anywhere, and when it can, the App's timeline sets it
    // back to its start.
    looker.addEventListener("load", go);
    const forget = looker.subscribeToState("frameNumber", (now) => now === 1 && setTimeout(go));
    setTimeout(() => {
      looker.removeEventListener("load", go);
      forget();
    }, SETTLED);
  };

  class GoToFrame extends Operator {
    get config() {
      return new OperatorConfig({ name: "go_to_frame", label: "Go to frame", unlisted: true });
    }

    useHooks() {
      return { looker: useLooker(), shown: useFrameNumber() };
    }

    // frame_numbers: the next of them is shown, in the order in which they are given, and around the end.
    async execute({ hooks: { looker, shown }, params: { frame_numbers: numbers } }) {
      const backward = numbers[0] > numbers[numbers.length - 1];
      const beyond = (number) => (backward ? number < shown() : number > shown());
      goTo(looker, numbers.find(beyond) ?? numbers[0]);
    }
  }

  // A button in a video's window that opens the form of an operator. frame: the parameter that gets the number of
  // the frame that is shown.
  const promptInVideo = (name, label, frame) =>
    class extends Operator {
      get config() {
        return new OperatorConfig({ name: `${name}_here`, label, unlisted: true });
      }

      async resolvePlacement() {
        const button = new types.Button({ label, prompt: false });
        return new types.Placement(types.Places.SAMPLES_VIEWER_ACTIONS, button);
      }

      useHooks() {
        return { shown: useFrameNumber(), prompt: window.__foo__.usePromptOperatorInput() };
      }

      async execute({ hooks: { shown, prompt } }) {
        const number = shown();
        prompt(`${PLUGIN}/${name}`, number ? { [frame]: number } : {});
      }
    };

  // An open window does not show new fields; opened again, it does.
  class ReopenSample extends Operator {
    get config() {
      return new OperatorConfig({ name: "reopen_sample", label: "Reopen sample", unlisted: true });
    }

    useHooks() {
      const { fieldSchema, modalMode, modalSample, nullableModalSampleId, sidebarVisible, State } = window.__fos__;
      const now = useRef({});
      now.current.looker = useLooker();
      now.current.id = useRecoilValue(nullableModalSampleId);
      now.current.schema = useRecoilValue(fieldSchema({ space: State.SPACE.FRAME }));
      now.current.sample = useRecoilValueLoadable(modalSample).state;
      [now.current.sidebar, now.current.setSidebar] = useRecoilState(sidebarVisible(true));
      const close = window.__fos__.useClearModal();
      const takeOver = window.__fos__.useSetModalState(); // the grid's fields, new ones included
      const open = window.__fos__.useSetExpandedSample();
      return { now, close, takeOver, open };
    }

    // id: of the sample; field: new frame field that the window is to show.
    async execute({ hooks: { now, close, takeOver, open }, params }) {
      const until = async (condition) => {
        for (let waited = 0; waited < LONGEST && !condition(); waited += MOMENT) {
          await new Promise((resolve) => setTimeout(resolve, MOMENT));
        }
      };
      const { looker, id } = now.current;
      if (id !== params.id || !looker) return; // somebody looks at something else now, or annotates
      const number = looker.frameNumber;
      const navigation = window.__fos__.modalNavigation.get(); // to the next and previous sample
      await close();
      await until(() => params.field in now.current.schema);
      await takeOver(navigation);
      await open({ id });
      await until(() => now.current.looker && now.current.looker !== looker);
      goTo(now.current.looker, number);
      // The sidebar waits in vain for what it began to read before the App had the new fields.
      await until(() => now.current.sample === "hasValue");
      if (!now.current.sidebar) return;
      now.current.setSidebar(false);
      await until(() => !now.current.sidebar);
      now.current.setSidebar(true);
    }
  }

  // In the dialog of running work: a button that closes the dialog. Whoever closes it, in whatever way, leaves it:
  // the server then sends no more progress, and what it had sent already does not open the dialog again.
  const left = new Set();
  function Leave({ schema }) {
    const { run } = schema.view;
    const place = useRef();
    const close = () => [...place.current.closest("[role=dialog]").querySelectorAll("button")].at(-1).click();
    useLayoutEffect(() => {
      if (left.has(run)) return close();
      return () => {
        left.add(run);
        executeOperator(`${PLUGIN}/continue_in_background`, { run });
      };
    }, [run]);
    const sx = { color: "text.secondary", borderColor: "text.secondary", textTransform: "none" };
    const look = { variant: "outlined", size: "small", sx };
    return createElement(window.__mui__.Button, { ref: place, onClick: close, ...look }, "Continue in the background");
  }

  registerOperator(GoToFrame, PLUGIN);
  registerOperator(ReopenSample, PLUGIN);
  registerOperator(promptInVideo("propagate_labels_in_video", "Propagate labels", "first_frame"), PLUGIN);
  registerOperator(promptInVideo("edit_track", "Edit track", "frame_number"), PLUGIN);
  const { PluginComponentType, registerComponent } = window.__fop__;
  registerComponent({ name: "ColorTrackLeave", label: "Leave", component: Leave, type: PluginComponentType.Component });
})();
